"""Makers of odd and broken image files. All of them are drawn here; none is random."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def quarters(height=16, width=32, corners=(RED, GREEN, BLUE, WHITE)):
    """Draw four quarters: top left, top right, bottom left, bottom right; no turn or flip leaves them alike."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = corners[:2]
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = corners[2:]
    return image


def textured(height=48, width=64):
    """Draw waves that no two places share, so that every format has something to pack."""
    y, x, c = np.mgrid[:height, :width, :3]
    return np.uint8(127.5 + 127.4 * np.sin(x * (0.07 + 0.01 * c) + y * y * 0.003 + c))


def saved(image, format, **options):
    """Return the file of an array or a Pillow image."""
    file = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, depth, colour, rows, *extra):
    """Write a PNG by hand: rows of packed samples, `extra` chunks before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + chunk(b"IEND", b"")


def grey16(values):
    values = np.asarray(values)
    return png(values.shape[1], values.shape[0], 16, 0, [row.astype(">u2").tobytes() for row in values])


def rgb16(values):
    values = np.asarray(values)
    return png(values.shape[1], values.shape[0], 16, 2, [row.astype(">u2").tobytes() for row in values])


def palette(indices, colours, alphas=b""):
    indices = np.asarray(indices, np.uint8)
    extra = [chunk(b"PLTE", bytes(np.asarray(colours, np.uint8)))] + ([chunk(b"tRNS", alphas)] if alphas else [])
    return png(indices.shape[1], indices.shape[0], 8, 3, [row.tobytes() for row in indices], *extra)


def rgba(pixels):
    return saved(np.asarray(pixels, np.uint8), "PNG")


def cmyk(colour, format="TIFF"):
    return saved(Image.new("CMYK", (8, 8), colour), format)


def animated(format):
    """Animate a red frame, then a green and a blue one."""
    frames = [Image.fromarray(np.full((8, 8, 3), colour, np.uint8)) for colour in (RED, GREEN, BLUE)]
    lossless = {"lossless": True} if format == "WEBP" else {}
    return saved(frames[0], format, save_all=True, append_images=frames[1:], duration=50, **lossless)


def turned(image, orientation, format="PNG"):
    """Store an upright image as a camera held otherwise would: turned pixels, and the EXIF tag that undoes it."""
    ways = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: np.rot90(a, 2),
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(np.ascontiguousarray(ways[orientation](image)), format, exif=exif)


def bomb(width=50_000, height=50_000):
    """Claim many pixels in a file of about a hundred bytes; the pixels are not there."""
    return png(width, height, 8, 2, [])


def truncated(format="PNG", **options):
    data = saved(textured(), format, **options)
    return data[: len(data) // 2]


def hopeless():
    """Return files that no decoder may accept, by name."""
    whole = saved(textured(), "PNG")
    return {
        "zero-bytes.png": b"",
        "text.png": b"GIF is what I am not\n",
        "html.jpg": b"<!doctype html><title>404 Not Found</title>",
        "pdf.png": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
        "truncated.png": truncated("PNG"),
        "truncated.jpg": truncated("JPEG"),
        "truncated.gif": truncated("GIF"),
        "truncated.webp": truncated("WEBP"),
        "truncated.bmp": truncated("BMP"),
        "truncated.tif": truncated("TIFF"),
        "truncated.ppm": truncated("PPM"),
        "signature-only.png": whole[:8],
        "flipped-bits.png": whole[:60] + bytes(b ^ 0xFF for b in whole[60:90]) + whole[90:],
        "bomb.png": bomb(),
        "no-pixels.png": png(0, 0, 8, 2, []),
        "float.tif": saved(Image.new("F", (4, 4), 0.5), "TIFF"),
    }


def odd():
    """Return files that are unusual but whole, by name; all of them decode."""
    return {
        "cmyk.jpg": cmyk((0, 255, 255, 0), "JPEG"),
        "grey16.png": grey16([[0, 65535], [257, 32768]]),
        "rgb16.png": rgb16([[[0, 65535, 257]]]),
        "palette.png": palette([[0, 1]], [RED, BLUE], b"\x80\xff"),
        "one-bit.png": png(8, 1, 1, 0, [b"\xaa"]),
        "alpha.png": rgba([[[255, 0, 0, 128]]]),
        "animated.gif": animated("GIF"),
        "animated.webp": animated("WEBP"),
        "rotated.jpg": turned(quarters(), 6, "JPEG"),
    }
