"""Bytes to pixels and back: the only decoder.

An image is uint8 [height, width, 3], taken as sRGB: colour profiles are ignored, as training pipelines ignore them.
Of an animation, or a file of several pages, the first is taken. Nothing that belongs to the whole process is changed,
so that all functions may be called from any thread; what an application sets in Pillow itself
(`LOAD_TRUNCATED_IMAGES`, a smaller `MAX_IMAGE_PIXELS`) is honoured.
"""

import re
import struct
import zlib
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from io import BytesIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from byrote.domain import RGB

try:
    import simplejpeg
except ImportError:  # the extra `fast`
    simplejpeg = None

MAX_PIXELS = 64 * 2**20  # a large photo; decoding one takes up to 1 GiB (WebP), mostly half of that
# Naming the plugins registers them, so that Pillow never loads its others (PDF, EPS, …) when it meets an unknown file.
_PLUGINS = {
    "PNG": PngImagePlugin,
    "JPEG": JpegImagePlugin,  # and MPO, which shares its opener
    "WEBP": WebPImagePlugin,
    "GIF": GifImagePlugin,
    "BMP": BmpImagePlugin,
    "TIFF": TiffImagePlugin,
    "PPM": PpmImagePlugin,
    "AVIF": AvifImagePlugin,
}
FORMATS = tuple(name for name, plugin in _PLUGINS.items() if getattr(plugin, "SUPPORTED", True))
# What Pillow may raise on hostile bytes. ArithmeticError holds OverflowError, LookupError IndexError and KeyError,
# RuntimeError NotImplementedError and RecursionError; Warning is for processes that turn warnings into errors.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    LookupError,
    EOFError,
    MemoryError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)
_SIGNATURES = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff",
    "GIF": b"GIF8",
    "WEBP": b"RIFF",
    "TIFF": b"II*\0",
    "BMP": b"BM",
}
_ORIENTATION = 0x0112
FILE = "file:"
"""What a digest of a file's bytes begins with."""
_STRIP = 2**20  # pixels converted at once
_HEAD = 2**16  # bytes in which EXIF begins, where there is any


class Undecodable(ValueError):
    """Bytes that are no image that can be read; `reason` is one line, the same wherever Pillow is the same."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes) -> RGB:
    """Return the pixels of a file: EXIF orientation applied, alpha over white. Raises Undecodable, and nothing else.

    Alpha is composited exactly: round((c * a + 255 * (255 - a)) / 255). Samples of 16 bits give their high byte. CMYK
    is turned into RGB by Pillow's formula, (255 - c)(255 - k) / 255, without a profile. A broken EXIF block counts as
    none. The size is checked against MAX_PIXELS before any pixel is decoded.
    """
    return _decoded(data, None)[0]


def decode_small(data: bytes, at_least: int) -> tuple[RGB, tuple[int, int]]:
    """Return the pixels of a file, and the height and width that it has. Raises Undecodable, and nothing else.

    A JPEG may come at a half, a quarter or an eighth of its size, so long as no side falls below `at_least` pixels: for
    thumbnails, never for a digest. At four times its side a thumbnail of 32 is off by 2.5 levels RMS (median of 300
    photographs; 5.8 at most), at twice by 4.3 (12), at its side by 9 (25): what is halved lies elsewhere than what the
    thumbnail averages.
    """
    return _decoded(data, at_least)


def _decoded(data: bytes, at_least: int | None) -> tuple[RGB, tuple[int, int]]:
    if not data:
        raise Undecodable("zero bytes")
    if (plain := _plain_jpeg(data, at_least)) is not None:
        return plain
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_size(image)
            size = image.size
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            _mend_key(image)
            image.load()
            orientation = _orientation(image)
            return _turned(_pixels(image), orientation), size if 5 <= orientation <= 8 else size[::-1]
    except Undecodable:
        raise
    except _BROKEN as error:
        raise Undecodable(_reason(error, data)) from error


def digest(image: RGB) -> str:
    """Return "sha256:…" over ASCII `WIDTHxHEIGHT`, a line feed and the RGB8 rows: the name of a picture."""
    height, width = _checked(image).shape[:2]
    state = sha256(f"{width}x{height}\n".encode("ascii"))
    state.update(np.ascontiguousarray(image).data)
    return "sha256:" + state.hexdigest()


def file_digest(data: bytes) -> str:
    """Return "file:…", the SHA-256 of a file's bytes: the name of a picture whose pixels nobody decoded in full."""
    return FILE + sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Tell the name of a picture, of either kind, from a path."""
    return re.fullmatch(r"(sha256|file):[0-9a-f]{64}", text) is not None


def decode_as(data: bytes, name: str) -> RGB | None:
    """Return the pixels of a file if they are those that a digest names, of either kind. Raises Undecodable."""
    image = decode(data)
    own = file_digest(data) if name.startswith(FILE) else digest(image)
    return image if own == name else None


def encode_png(image: RGB) -> bytes:
    """Return the image as PNG, the same bytes every time with one build of Pillow (another zlib may pack otherwise)."""
    return _saved(image, "PNG", compress_level=1)


def encode_jpeg(image: RGB, quality: int = 85) -> bytes:
    """Return the image as JPEG without chroma subsampling; `quality` 1 to 95."""
    return _saved(image, "JPEG", quality=quality, subsampling=0)


def preview(image: RGB, side: int, quality: int = 85) -> bytes:
    """Return a JPEG whose longer side is at most `side`, for a page; never enlarged, aspect kept."""
    height, width = _checked(image).shape[:2]
    scale = min(1.0, side / max(height, width))
    return encode_jpeg(resize(image, max(1, round(width * scale)), max(1, round(height * scale))), quality)


def resize(image: RGB, width: int, height: int) -> RGB:
    """Return the image at another size: area means where nothing grows, bicubic (antialiased) otherwise.

    Where the new sides divide the old ones, a pixel is the mean of its block, rounded half up for factors that are
    powers of two and within one level for others; elsewhere Pillow's box filter rounds once for each axis. An image
    that has the size already comes back as it is.
    """
    old_height, old_width = _checked(image).shape[:2]
    if width < 1 or height < 1:
        raise ValueError(f"an image cannot be resized to {width}x{height}")
    if (width, height) == (old_width, old_height):
        return image
    if old_width % width == 0 and old_height % height == 0:
        return _array(_pillow(image).reduce((old_width // width, old_height // height)))
    grows = width > old_width or height > old_height
    return _array(_pillow(image).resize((width, height), Image.Resampling.BICUBIC if grows else Image.Resampling.BOX))


def fit(image: RGB, width: int, height: int) -> RGB:
    """Crop the image about its centre to the aspect of `width` x `height`, then resize: what a training pipeline feeds.

    The crop is the largest one in whole pixels; of an odd margin, the larger half goes from the bottom or the right.
    """
    if width < 1 or height < 1:
        raise ValueError(f"an image cannot be fitted to {width}x{height}")
    old_height, old_width = _checked(image).shape[:2]
    crop_width = max(1, min(old_width, (2 * old_height * width + height) // (2 * height)))
    crop_height = max(1, min(old_height, (2 * old_width * height + width) // (2 * width)))
    left, top = (old_width - crop_width) // 2, (old_height - crop_height) // 2
    return resize(np.ascontiguousarray(image[top : top + crop_height, left : left + crop_width]), width, height)


def _plain_jpeg(data: bytes, at_least: int | None) -> tuple[RGB, tuple[int, int]] | None:
    """Decode an ordinary JPEG by simplejpeg where that is installed: the same pixels, in less than half the time.

    Whatever is out of the ordinary (EXIF, which may turn it, colours other than grey and YCbCr, damage) is for Pillow.
    """
    if simplejpeg is None or not data.startswith(_SIGNATURES["JPEG"]) or data.find(b"Exif", 0, _HEAD) >= 0:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray") or not 0 < width * height <= MAX_PIXELS:
            return None
        least = {} if at_least is None else {"min_height": at_least, "min_width": at_least, "min_factor": 2}
        found: RGB = simplejpeg.decode_jpeg(data, "RGB", **least)
    except ValueError:
        return None
    return found, (height, width)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise Undecodable(f"no pixels: {width}x{height}")
    if width * height > MAX_PIXELS:
        raise Undecodable(f"decompression bomb: {width}x{height}")


def _mend_key(image: ImageFile.ImageFile) -> None:
    """Put the transparent colour of a PNG on the scale of the pixels; Pillow leaves it on that of the file.

    A colour of 16 bits keeps its high bytes, like the pixels, so that its nearest neighbours go with it.
    """
    key = image.info.get("transparency")
    if key is None or image.format != "PNG" or not image.tile:
        return
    packing = image.tile[0].args
    if packing == "RGB;16B":
        image.info["transparency"] = tuple(sample >> 8 for sample in key)
    elif packing in ("L;2", "L;4"):
        image.info["transparency"] = key * (85 if packing == "L;2" else 17)


def _pixels(image: Image.Image) -> RGB:
    """Convert strip by strip, so that a large image needs no large copies in between."""
    convert = _conversion(image)
    width, height = image.size
    rows = max(1, _STRIP // width)
    if rows >= height:
        return convert(image)
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        out[top : top + rows] = convert(image.crop((0, top, width, min(top + rows, height))))
    return out


def _conversion(image: Image.Image) -> Callable[[Image.Image], RGB]:
    """Return what turns a strip of this image into pixels."""
    if image.mode.startswith("I") or image.mode == "F":
        return partial(_deep_grey, shift=_deep_bits(image) - 8)
    return _over_white if image.has_transparency_data else _opaque


def _opaque(image: Image.Image) -> RGB:
    return _array(image if image.mode == "RGB" else image.convert("RGB"))


def _deep_grey(image: Image.Image, shift: int) -> RGB:
    """Take the high byte of deep greys, where Pillow's own conversion would clip at 255."""
    deep = np.asarray(image)
    grey = (deep >> shift).astype(np.uint8)
    grey[deep == image.info.get("transparency", -1)] = 255
    return np.repeat(grey[..., None], 3, axis=2)


def _deep_bits(image: Image.Image) -> int:
    """Return the bits of a deep grey sample: 16, but for the TIFF files of 12 that Pillow opens in the same mode."""
    if not image.mode.startswith("I;16") and (image.mode, image.format) != ("I", "PPM"):
        raise Undecodable(f"unsupported: samples of mode {image.mode} have no known range")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0])
    return 16


def _over_white(image: Image.Image) -> RGB:
    rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
    alpha = rgba[..., 3:]
    scaled = rgba[..., :3] * alpha + 255 * (255 - alpha) + 128
    # round(x / 255) without a division, exact for all x up to 255 * 255
    return ((scaled + (scaled >> 8)) >> 8).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN:
        return 1


def _turned(image: RGB, orientation: int) -> RGB:
    """Undo an EXIF orientation (1 to 8); 5 to 8 lie on their side, so that rows and columns change places first."""
    if not 2 <= orientation <= 8:
        return image
    upright = image.swapaxes(0, 1) if orientation >= 5 else image
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(upright[::down, ::right])


def _reason(error: BaseException, data: bytes) -> str:
    """Tell an error in one line, without the addresses of objects that Pillow puts into some."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        pixels = re.search(r"\d+ pixels", str(error))
        return f"decompression bomb: {pixels[0] if pixels else 'too many pixels'}"
    if isinstance(error, UnidentifiedImageError):
        started = [name for name, magic in _SIGNATURES.items() if data.startswith(magic)]
        return f"truncated or broken: a {started[0]} file without a readable header" if started else "not an image"
    if "truncated" in str(error).lower():
        return "truncated"
    told = re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "it", " ".join(str(error).split()))
    return f"broken: {told[:120] or type(error).__name__}"


def _checked(image: RGB) -> RGB:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image is uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
    return image


def _pillow(image: RGB) -> Image.Image:
    height, width = _checked(image).shape[:2]
    return Image.frombytes("RGB", (width, height), np.ascontiguousarray(image).data)


def _array(image: Image.Image) -> RGB:
    """Copy, because an array over Pillow's own bytes is read-only, which torch warns about."""
    flat = np.frombuffer(bytearray(image.tobytes()), np.uint8)
    return flat.reshape(image.height, image.width, 3)


def _saved(image: RGB, format: str, **options: int) -> bytes:
    file = BytesIO()
    _pillow(image).save(file, format, **options)
    return file.getvalue()
