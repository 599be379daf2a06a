"""Pictures for the tests of corpora, drawn anew: fields with the spectrum of photographs, and copies of them."""

import json
import sys
from pathlib import Path

import numpy as np

from byrote import images

CLI = [sys.executable, "-c", "from byrote.cli import main; raise SystemExit(main())"]


def field(seed, height=64, width=64):
    """Draw three channels that have much in common, their amplitude falling as one over the frequency."""
    rng = np.random.default_rng(seed)
    waves = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    waves[0, 0] = 1
    shared, picture = rng.standard_normal((height, width)), np.empty((height, width, 3))
    for channel in range(3):
        spectrum = np.fft.fft2(0.8 * shared + 0.6 * rng.standard_normal((height, width))) / waves
        spectrum[0, 0] = 0
        drawn = np.fft.ifft2(spectrum).real
        picture[..., channel] = 128 + 45 * drawn / drawn.std()
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def mirrored(picture):
    return np.ascontiguousarray(picture[:, ::-1])


def quarter(picture):
    return np.ascontiguousarray(np.rot90(picture))


def cropped(picture, share=0.85, left=0.1, top=0.05):
    """Cut a window out, in shares of the edges, to whole pixels."""
    height, width = picture.shape[:2]
    x, y = round(left * width), round(top * height)
    return np.ascontiguousarray(picture[y : y + round(share * height), x : x + round(share * width)])


def compressed(picture, quality=50):
    return images.decode(images.encode_jpeg(picture, quality))


def brightened(picture):
    return np.clip(np.rint(picture * 1.12 + 8.0), 0, 255).astype(np.uint8)


COPIES = {
    "mirrored": mirrored,
    "quarter": quarter,
    "cropped": cropped,
    "compressed": compressed,
    "brightened": brightened,
}


def digest(picture):
    return images.digest(picture)


def fill(folder, pictures, captions=None):
    """Write pictures (arrays as PNG, bytes as they are) by name, and captions, a text or several, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        data = picture if isinstance(picture, bytes) else images.encode_png(picture)
        (folder / name).write_bytes(data)
    if captions is not None:
        rows = [json.dumps({"file_name": name, "text": said}) + "\n" for name, said in captions.items()]
        (folder / "metadata.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


def fields(seeds):
    return {f"field-{seed:03d}.png": field(seed) for seed in seeds}


def captions_of(names):
    return {name: f"a caption of {Path(name).stem}" for name in names}
