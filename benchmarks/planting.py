"""Build a folder of real pictures with planted near-duplicates, and the truth beside it.

    python benchmarks/planting.py --photos photos.parquet --cifar cifar10.parquet --out DIR [--seed 0]

Originals are photographs, their disjoint tiles of 96 x 96 and CIFAR pictures, of which those that are flat or near
another are removed first, by pixels alone (`clean`). Each copy is of another original. DIR/pictures holds the files,
whose shuffled names tell nothing; DIR/truth.json says what each is. Pixels are uint8 [height, width, 3]; RMS and
standard deviations are in units of the full range, 255 levels.
"""

import argparse
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageEnhance, ImageFont
from scipy import ndimage

TILE = 96
FLAT = 6 / 255  # standard deviation of the luma
NEAR_RMS = 0.06  # of 32 x 32 RGB
NEAR_BITS = 31  # of 256 signs of a discrete cosine transform; PDQ's own limit for one picture
NEAR_CROP, NEAR_DETAIL = 0.9, 0.6  # correlations of a crop with a whole picture: of its colours, and of its details
SIDE, SMALL, WAVES, DETAIL = 32, 8, 16, 24
NINE = tuple((y, x) for y in (0, 1, 2) for x in (0, 1, 2))
WINDOWS = ((0, 0, SIDE), *((y, x, side) for side in (28, 25) for y, x in NINE))  # corner, in halves of the rest; side
SPARE = 1.2  # how many originals are drawn for one that is kept
BLOCK = 2048

Pixels = np.ndarray
Edit = Callable[[Image.Image, np.random.Generator], tuple[Image.Image, dict[str, Any], str, int]]


@dataclass(frozen=True)
class Original:
    """A picture before any copy: `name` says its row, and its tile's corner where it is one."""

    origin: str
    name: str
    pixels: Pixels


def photographs(path: Path) -> list[Original]:
    """Decode the photographs of a Parquet file with the columns image and name."""
    rows = pq.read_table(path, columns=["image", "name"]).to_pylist()
    return [Original("photo", row["name"], decoded(row["image"])) for row in rows]


def tiles_of(photo: Original) -> list[Original]:
    """Cut a photograph into its disjoint tiles; what is left at the right and at the bottom is dropped."""
    height, width = photo.pixels.shape[:2]
    corners = [(y, x) for y in range(0, height - TILE + 1, TILE) for x in range(0, width - TILE + 1, TILE)]
    return [Original("tile", f"{photo.name} {y} {x}", photo.pixels[y : y + TILE, x : x + TILE]) for y, x in corners]


def small_pictures(path: Path, split: str = "train") -> list[Original]:
    """Decode one split of the CIFAR pictures."""
    table = pq.read_table(path, columns=["image", "name", "split"])
    return [Original("cifar", row["name"], decoded(row["image"])) for row in table.to_pylist() if row["split"] == split]


def decoded(data: bytes) -> Pixels:
    """Return the pixels of an encoded image."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def pool(
    photos: list[Original], small: list[Original], tiles: int, rest: int, dice: np.random.Generator
) -> list[Original]:
    """Draw all photographs, and spare numbers of tiles and CIFAR pictures, each group in a random order."""
    cut = [tile for photo in photos for tile in tiles_of(photo)]
    drawn = list(photos)
    for group, wanted in ((cut, round(tiles * SPARE)), (small, round(rest * SPARE))):
        order = dice.permutation(len(group))[:wanted]
        drawn += [group[k] for k in order]
    return drawn


def luma(pixels: Pixels) -> np.ndarray:
    """Return the luma of BT.601, float32 in [0, 1]."""
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255


def squeezed(pixels: Pixels, side: int) -> Pixels:
    """Return the picture at side x side, by areas where it shrinks."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.BOX))


def turns(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """Yield square pictures [n, h, w, ...] in the eight orientations."""
    for k in range(4):
        turned = np.rot90(pictures, k, (1, 2))
        yield turned
        yield turned[:, :, ::-1]


def block_means(pictures: np.ndarray, side: int) -> np.ndarray:
    """Average float pictures [n, h, h, c] to [n, side, side, c]."""
    n, h, _, c = pictures.shape
    return pictures.reshape(n, side, h // side, side, h // side, c).mean((2, 4))


def signs(grey: np.ndarray) -> np.ndarray:
    """Return 256 signs of ±1 of each grey picture [n, 64, 64]: DCT terms 1 to 16 against their median."""
    at = (np.arange(64) + 0.5) / 64
    waves = np.cos(np.pi * np.arange(1, WAVES + 1)[:, None] * at).astype(np.float32)
    terms = (waves @ grey @ waves.T).reshape(len(grey), -1)
    return np.where(terms > np.median(terms, 1, keepdims=True), 1, -1).astype(np.float32)


def pairs_of(left: np.ndarray, right: np.ndarray, least: float) -> np.ndarray:
    """Return the pairs i < j of rows whose dot product left[i] . right[j] is at least `least`: int [n, 2]."""
    found = []
    blocks = range(0, len(left), BLOCK)
    for i, j in combinations_with_replacement(blocks, 2):
        a, b = np.nonzero(left[i : i + BLOCK] @ right[j : j + BLOCK].T >= least)
        found.append(np.stack([a + i, b + j], 1)[a + i < b + j])
    return np.concatenate(found)


def near_by_pixels(thumbs: np.ndarray, within: float = NEAR_RMS) -> np.ndarray:
    """Return the pairs i < j whose thumbnails [n, 32, 32, 3] in [0, 1] are within an RMS, in any orientation.

    Exact: means of blocks are never further apart than what they are means of, so that they rule out the rest.
    """
    low = block_means(thumbs, SMALL)
    found = []
    for turned, exact in zip(turns(low), turns(thumbs), strict=True):
        a, b = low.reshape(len(low), -1), np.ascontiguousarray(turned).reshape(len(low), -1)
        lifted = np.concatenate([a, -(a**2).sum(1, keepdims=True) / 2, -np.ones_like(a[:, :1])], 1)
        other = np.concatenate([b, np.ones_like(b[:, :1]), (b**2).sum(1, keepdims=True) / 2], 1)
        maybe = pairs_of(lifted, other, -(within**2) * a.shape[1] / 2 - 1e-4)
        for part in np.array_split(maybe, len(maybe) // 4096 + 1):
            gap = ((thumbs[part[:, 0]] - exact[part[:, 1]]) ** 2).mean((1, 2, 3))
            found.append(part[gap < within**2])
    return np.unique(np.concatenate(found), axis=0)


def near_by_signs(grey: np.ndarray, within: int = NEAR_BITS) -> np.ndarray:
    """Return the pairs i < j whose 256 signs differ in at most `within`, in any orientation."""
    plain = signs(grey)
    found = [pairs_of(plain, signs(np.ascontiguousarray(turned)), 256 - 2 * within) for turned in turns(grey)]
    return np.unique(np.concatenate(found), axis=0)


def window(start: int, length: int, side: int) -> np.ndarray:
    """Return the matrix that averages `length` of 32 lines from `start` on down to `side`: float32 [side, 32]."""
    edges = start + np.arange(side + 1) * length / side
    low, high = edges[:-1, None], edges[1:, None]
    lines = np.arange(SIDE)
    covers = np.minimum(high, lines + 1) - np.maximum(low, lines)
    return (np.maximum(covers, 0) / (length / side)).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    """Take the mean off each row [n, ...], and give it length 1: float32 [n, d]."""
    flat = rows.reshape(len(rows), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return (flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def views(thumbs: np.ndarray, place: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows of the colours (8 x 8) and of the fine details (24 x 24, grey) of a window of each thumbnail."""
    y, x, length = place
    y, x = y * (SIDE - length) // 2, x * (SIDE - length) // 2
    rows, columns = window(y, length, SMALL), window(x, length, SMALL)
    colours = np.einsum("ay,nyxc,bx->nabc", rows, thumbs, columns, optimize=True)
    grey = window(y, length, DETAIL) @ thumbs.mean(3) @ window(x, length, DETAIL).T
    return unit(colours), unit(grey - ndimage.gaussian_filter(grey, (0, 2, 2)))


def near_by_crops(thumbs: np.ndarray) -> np.ndarray:
    """Return the pairs i < j of which one, whole, correlates with a crop of the other, as it is or mirrored.

    CIFAR holds many pictures several times over, cut a little differently, which pixels in place do not show.
    """
    colours, details = views(thumbs, WINDOWS[0])
    found = []
    for flipped in (thumbs, np.ascontiguousarray(thumbs[:, :, ::-1])):
        for place in WINDOWS:
            cut, fine = views(flipped, place)
            for at in range(0, len(cut), BLOCK):
                i, j = np.nonzero(cut[at : at + BLOCK] @ colours.T >= NEAR_CROP)
                close = np.einsum("nd,nd->n", fine[i + at], details[j]) >= NEAR_DETAIL
                found.append(np.sort(np.stack([i + at, j], 1)[close], 1))
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def kept(n: int, pairs: np.ndarray) -> np.ndarray:
    """Return which of n pictures stay, the later of each pair going: bool [n]."""
    stays = np.ones(n, bool)
    for i, j in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]:
        if stays[i]:
            stays[j] = False
    return stays


def clean(drawn: list[Original]) -> tuple[list[Original], dict[str, int]]:
    """Remove the flat pictures, then the later one of each near pair; return the rest, and what went for what."""
    bright = [item for item in drawn if luma(item.pixels).std() >= FLAT]
    thumbs = np.stack([squeezed(item.pixels, SIDE) for item in bright]).astype(np.float32) / 255
    grey = np.stack([luma(squeezed(item.pixels, 64)) for item in bright])
    pixels, bits, crops = near_by_pixels(thumbs), near_by_signs(grey), near_by_crops(thumbs)
    stays = kept(len(bright), np.unique(np.concatenate([pixels, bits, crops]), axis=0))
    told = {"drawn": len(drawn), "flat": len(drawn) - len(bright), "pairs near by pixels": len(pixels)}
    told |= {"pairs near by signs": len(bits), "pairs near by crops": len(crops)}
    told |= {"removed as near": int((~stays).sum())}
    return [item for item, stay in zip(bright, stays, strict=True) if stay], told


def trimmed(drawn: list[Original], tiles: int, total: int) -> list[Original]:
    """Keep the photographs, the first `tiles` tiles, and CIFAR pictures up to `total`. ValueError for too few."""
    by = {origin: [item for item in drawn if item.origin == origin] for origin in ("photo", "tile", "cifar")}
    cut = by["photo"] + by["tile"][:tiles]
    cut += by["cifar"][: total - len(cut)]
    if len(cut) < total or len(by["tile"]) < tiles:
        raise ValueError(f"{len(cut)} originals, {len(by['tile'])} tiles left of {total}, {tiles}; plant fewer")
    return cut


def cropped(image: Image.Image, dice: np.random.Generator, least: float = 0.8) -> tuple[Image.Image, dict[str, Any]]:
    """Cut out a part of `least` to .95 of the edges, at a random place; half of the time both share one number."""
    shares = dice.uniform(least, 0.95, 2)
    if dice.random() < 0.5:
        shares[1] = shares[0]
    width, height = (max(1, round(edge * share)) for edge, share in zip(image.size, shares, strict=True))
    left, top = int(dice.integers(image.width - width + 1)), int(dice.integers(image.height - height + 1))
    box = (left, top, left + width, top + height)
    return image.crop(box), {"edges": [round(float(s), 4) for s in shares], "box": list(box)}


def brightened(image: Image.Image, dice: np.random.Generator) -> tuple[Image.Image, dict[str, Any]]:
    """Multiply the levels by .75 to 1.3."""
    factor = float(dice.uniform(0.75, 1.3))
    return ImageEnhance.Brightness(image).enhance(factor), {"factor": round(factor, 4)}


def crop(image: Image.Image, dice: np.random.Generator) -> tuple[Image.Image, dict[str, Any], str, int]:
    """Crop to .8 to .95 of the edges."""
    return *cropped(image, dice), "JPEG", 90


def mirror(image: Image.Image, dice: np.random.Generator) -> tuple[Image.Image, dict[str, Any], str, int]:
    """Swap left and right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), {}, "JPEG", 90


def turn(image: Image.Image, dice: np.random.Generator) -> tuple[Image.Image, dict[str, Any], str, int]:
    """Turn by 90, 180 or 270 degrees."""
    quarter = int(dice.integers(1, 4))
    return image.rotate(90 * quarter, expand=True), {"degrees": 90 * quarter}, "JPEG", 90


def jpeg(image: Image.Image, dice: np.random.Generator) -> tuple[Image.Image, dict[str, Any], str, int]:
    """Encode at quality 50."""
    return image, {}, "JPEG", 50


def resize(image: Image.Image, dice: np.random.Generator) -> tuple[Image.Image, dict[str, Any], str, int]:
    """Scale by .5 to .8 or by 1.25 to 1.6, bicubic; half of them are kept without loss."""
    factor = float(dice.uniform(0.5, 0.8) if dice.random() < 0.5 else dice.uniform(1.25, 1.6))
    size = (round(image.width * factor), round(image.height * factor))
    scaled = image.resize(size, Image.Resampling.BICUBIC)
    return scaled, {"factor": round(factor, 4)}, ("PNG" if dice.random() < 0.5 else "JPEG"), 90


def brightness(image: Image.Image, dice: np.random.Generator) -> tuple[Image.Image, dict[str, Any], str, int]:
    """Multiply the levels by .75 to 1.3."""
    return *brightened(image, dice), "JPEG", 90


def text(image: Image.Image, dice: np.random.Generator) -> tuple[Image.Image, dict[str, Any], str, int]:
    """Write a line over about 3 to 6 % of the area, in white or black, at a random place."""
    share, letters = float(dice.uniform(0.03, 0.06)), int(dice.integers(4, 15))
    line = "".join(dice.choice(list("abcdefghijklmnopqrstuvwxyz"), letters))
    line, font, box = _fitted(line, share, image)
    left = int(dice.integers(max(1, image.width - (box[2] - box[0]))))
    top = int(dice.integers(max(1, image.height - (box[3] - box[1]))))
    over, ink = image.copy(), (255, 255, 255) if dice.random() < 0.5 else (0, 0, 0)
    ImageDraw.Draw(over).text((left - box[0], top - box[1]), line, fill=ink, font=font)
    covers = (box[2] - box[0]) * (box[3] - box[1]) / (image.width * image.height)
    return over, {"text": line, "covers": round(covers, 4)}, "JPEG", 90


def _fitted(line: str, share: float, image: Image.Image) -> tuple[str, Any, tuple[float, float, float, float]]:
    """Shorten the line until, at a size of 5 px or more that covers the share of the area, it fits the width."""
    while True:
        size = 5.0
        font = ImageFont.load_default(size)
        box = font.getbbox(line)
        while (box[2] - box[0]) * (box[3] - box[1]) < share * image.width * image.height:
            size *= 1.05
            font = ImageFont.load_default(size)
            box = font.getbbox(line)
        covers = (box[2] - box[0]) * (box[3] - box[1]) / (image.width * image.height)
        if (box[2] - box[0] <= image.width and covers < 0.07) or len(line) == 1:
            return line, font, box
        line = line[:-1]


def mixed(image: Image.Image, dice: np.random.Generator) -> tuple[Image.Image, dict[str, Any], str, int]:
    """Crop to .85 to .95 of the edges, change the brightness, and encode at quality 60."""
    part, place = cropped(image, dice, 0.85)
    lit, factor = brightened(part, dice)
    return lit, place | factor, "JPEG", 60


EDITS: dict[str, Edit] = {edit.__name__: edit for edit in (crop, mirror, turn, jpeg, resize, brightness, text, mixed)}


def encoded(image: Image.Image, form: str, quality: int) -> bytes:
    """Return the bytes of a file, without anything of its own but pixels."""
    out = io.BytesIO()
    image.save(out, form, **({"quality": quality} if form == "JPEG" else {"compress_level": 1}))
    return out.getvalue()


def copies_of(
    originals: Sequence[Original], copies: int, seed: int
) -> Iterator[tuple[int, str, dict[str, Any], bytes, str]]:
    """Yield (original, kind of edit, its numbers, bytes, format) of each copy; kinds in equal shares."""
    dice = np.random.default_rng([seed, 2])
    chosen = dice.choice(len(originals), copies, replace=False)
    kinds = list(EDITS)
    for k, place in enumerate(chosen):
        kind = kinds[k % len(kinds)]
        made, numbers, form, quality = EDITS[kind](Image.fromarray(np.ascontiguousarray(originals[place].pixels)), dice)
        yield int(place), kind, numbers, encoded(made, form, quality), form


def plant(
    photos: Path, cifar: Path, out: Path, seed: int, originals: int = 18_000, copies: int = 2_000, tiles: int = 6_000
) -> dict[str, Any]:
    """Write out/pictures and out/truth.json, and return the truth. Raises ValueError where too few originals are left.

    A row of `files` is a file in the order of names: origin, name, number of the original, edit (null for an original)
    with its numbers, and half (A or B, shared by an original and its copy). `pairs` are rows i < j of `files`.
    """
    dice = np.random.default_rng([seed, 1])
    photographed = photographs(photos)
    rest = originals - tiles - len(photographed)
    cleaned, told = clean(pool(photographed, small_pictures(cifar), tiles, rest, dice))
    chosen = trimmed(cleaned, tiles, originals)
    halves = dice.choice(["A", "B"], originals)
    rows: list[dict[str, Any]] = []
    files: list[tuple[bytes, str]] = []
    for k, item in enumerate(chosen):
        form = "PNG" if dice.random() < 1 / 16 else "JPEG"  # so that a format does not tell a copy
        files.append((encoded(Image.fromarray(np.ascontiguousarray(item.pixels)), form, 92), form))
        rows.append({"origin": item.origin, "name": item.name, "original": k, "edit": None, "half": str(halves[k])})
    for place, kind, numbers, data, form in copies_of(chosen, copies, seed):
        files.append((data, form))
        rows.append(rows[place] | {"edit": kind, "numbers": numbers})
    return _written(out, files, rows, dice, told | {"seed": seed})


def _written(
    out: Path,
    files: list[tuple[bytes, str]],
    rows: list[dict[str, Any]],
    dice: np.random.Generator,
    told: dict[str, Any],
) -> dict[str, Any]:
    """Write the files in a shuffled order, and the truth."""
    order = dice.permutation(len(files))
    (out / "pictures").mkdir(parents=True)
    for place, k in enumerate(order):
        data, form = files[k]
        rows[k]["file"] = f"{place:06d}.{'png' if form == 'PNG' else 'jpg'}"
        (out / "pictures" / rows[k]["file"]).write_bytes(data)
    shuffled = [rows[k] for k in order]
    truth = told | {"files": shuffled, "pairs": _planted(shuffled)}
    (out / "truth.json").write_text(json.dumps(truth, indent=0) + "\n")
    return truth


def _planted(rows: list[dict[str, Any]]) -> list[list[int]]:
    """Return the rows of each copy and its original, i < j."""
    at = {row["original"]: k for k, row in enumerate(rows) if row["edit"] is None}
    return sorted(sorted([at[row["original"]], k]) for k, row in enumerate(rows) if row["edit"] is not None)


def main() -> None:
    """Plant, and say what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--originals", type=int, default=18_000)
    parser.add_argument("--copies", type=int, default=2_000)
    parser.add_argument("--tiles", type=int, default=6_000)
    options = parser.parse_args()
    truth = plant(
        options.photos, options.cifar, options.out, options.seed, options.originals, options.copies, options.tiles
    )
    print({key: value for key, value in truth.items() if key not in {"files", "pairs"}})
    for what in ("origin", "edit", "half"):
        print(dict(Counter(row[what] for row in truth["files"])))


if __name__ == "__main__":
    main()
