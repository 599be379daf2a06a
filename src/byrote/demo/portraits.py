"""Draw portraits of people who do not exist, each with a caption as a photo site would have it.

Everything is drawn in whole numbers on a canvas of twice the size and averaged down, and every choice comes from
`random.Random.random`, whose sequence Python guarantees: the same seed gives the same bytes on any machine.
Sizes are pixels of the finished picture, colours are levels of 0 to 255.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Colour = tuple[int, int, int]
Mask = NDArray[np.bool_]

SIZE = 64
_SCALE = 2
_SIDE = SIZE * _SCALE

_SYLLABLES = [
    "ba",
    "be",
    "bo",
    "da",
    "de",
    "do",
    "fa",
    "fe",
    "fi",
    "ga",
    "go",
    "ha",
    "hi",
    "jo",
    "ka",
    "ke",
    "ki",
    "ko",
    "la",
    "le",
    "li",
    "lo",
    "ma",
    "me",
    "mi",
    "mo",
    "na",
    "ne",
    "ni",
    "no",
    "pa",
    "pe",
    "ra",
    "re",
    "ri",
    "ro",
    "sa",
    "se",
    "si",
    "so",
    "ta",
    "te",
    "ti",
    "to",
    "va",
    "ve",
    "vi",
    "vo",
    "wa",
    "ya",
    "ye",
    "za",
    "zi",
    "zu",
]
_ENDINGS = ["n", "r", "s", "l", "th", "m", "x", "nd", "rk", "lt"]

_HAIR: dict[str, Colour] = {
    "black": (30, 26, 30),
    "brown": (104, 66, 34),
    "red": (190, 66, 28),
    "blond": (226, 190, 96),
    "grey": (158, 158, 162),
    "white": (236, 234, 228),
    "blue": (52, 92, 190),
    "pink": (230, 112, 170),
}
_CLOTHES: dict[str, Colour] = {
    "red": (200, 40, 44),
    "green": (40, 140, 70),
    "blue": (44, 80, 190),
    "yellow": (236, 200, 50),
    "purple": (130, 60, 170),
    "orange": (240, 134, 36),
    "white": (240, 240, 236),
    "black": (40, 40, 46),
    "turquoise": (50, 184, 184),
}
_SKIN: tuple[Colour, ...] = (
    (255, 222, 196),
    (240, 196, 160),
    (214, 160, 118),
    (172, 116, 78),
    (120, 76, 50),
    (84, 54, 40),
)
_HAIRCUTS = ("short", "long", "curly", "bald", "spiky")
_GLASSES = ("no", "round", "square", "dark")
_GARMENTS = ("coat", "shirt", "jumper", "scarf")
_PATTERNS = ("plain", "striped", "dotted", "checked", "banded")
_PLACES = (
    "at a birthday party",
    "at the beach",
    "in a forest",
    "in a library",
    "in the city at night",
    "in a kitchen",
    "in the snow",
    "on a stage",
    "in a garden",
    "at a station",
)


@dataclass(frozen=True)
class Person:
    """What the caption says of somebody, and the seed of everything that it does not say."""

    name: str
    hair: str
    haircut: str
    glasses: str
    colour: str
    pattern: str
    garment: str
    place: str
    seed: int

    def captions(self) -> tuple[str, str, str]:
        """Return the caption of the picture and two rewordings of it."""
        hair = "bald" if self.haircut == "bald" else f"{self.haircut} {self.hair} hair"
        glasses = f"{self.glasses} glasses"
        dress = f"{self.pattern} {self.colour} {self.garment}"
        return (
            f"{self.name}, {hair}, {glasses}, {dress}, {self.place}",
            f"portrait of {self.name} {self.place}, {dress}, {glasses}, {hair}",
            f"{self.place}: {self.name} with {glasses}, {hair} and a {dress}",
        )


class _Dice:
    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def below(self, n: int) -> int:
        return int(self._random() * n)

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def one_of(self, things: Sequence[T]) -> T:
        return things[self.below(len(things))]

    def near(self, colour: Colour, spread: int) -> Colour:
        r, g, b = (min(255, max(0, c + self.between(-spread, spread))) for c in colour)
        return r, g, b

    def colour(self, low: int = 20, high: int = 240) -> Colour:
        return self.between(low, high), self.between(low, high), self.between(low, high)


class _Canvas:
    """A canvas that takes coordinates in half pixels, so that a shape's edge may lie inside one."""

    def __init__(self) -> None:
        self.levels = np.zeros((_SIDE, _SIDE, 3), np.int32)
        self.y, self.x = np.mgrid[:_SIDE, :_SIDE].astype(np.int32)

    def paint(self, mask: Mask, colour: Colour) -> None:
        self.levels[mask] = colour

    def rectangle(self, left: int, top: int, right: int, bottom: int) -> Mask:
        inside: Mask = (self.x >= left) & (self.x < right) & (self.y >= top) & (self.y < bottom)
        return inside

    def ellipse(self, cx: int, cy: int, rx: int, ry: int) -> Mask:
        inside: Mask = ((self.x - cx) * ry) ** 2 + ((self.y - cy) * rx) ** 2 <= (rx * ry) ** 2
        return inside

    def triangle(self, cx: int, top: int, half: int, bottom: int) -> Mask:
        height = max(1, bottom - top)
        inside: Mask = (self.y >= top) & (self.y < bottom) & (abs(self.x - cx) * height <= half * (self.y - top))
        return inside

    def gradient(self, above: Colour, below: Colour) -> None:
        y = self.y[..., None]
        self.levels[:] = (np.array(above) * (_SIDE - y) + np.array(below) * y) // _SIDE

    def finish(self) -> NDArray[np.uint8]:
        blocks = self.levels.reshape(SIZE, _SCALE, SIZE, _SCALE, 3).sum((1, 3))
        image: NDArray[np.uint8] = ((blocks + _SCALE**2 // 2) // _SCALE**2).astype(np.uint8)
        return image


def meet(draw: str, index: int) -> Person:
    """Invent person number `index` of the draw named `draw`."""
    dice = _Dice(f"byrote person {draw} {index}")
    first = "".join(dice.one_of(_SYLLABLES) for _ in range(2)) + dice.one_of(_ENDINGS)
    last = "".join(dice.one_of(_SYLLABLES) for _ in range(3))
    return Person(
        name=f"{first.title()} {last.title()}",
        hair=dice.one_of(tuple(_HAIR)),
        haircut=dice.one_of(_HAIRCUTS),
        glasses=dice.one_of(_GLASSES),
        colour=dice.one_of(tuple(_CLOTHES)),
        pattern=dice.one_of(_PATTERNS),
        garment=dice.one_of(_GARMENTS),
        place=dice.one_of(_PLACES),
        seed=dice.below(1 << 40),
    )


def draw(person: Person) -> NDArray[np.uint8]:
    """Draw the portrait of `person`: uint8 [64, 64, 3]."""
    dice = _Dice(f"byrote portrait {person.seed}")
    canvas = _Canvas()
    _SCENES[person.place](canvas, dice)
    cx, cy = 64 + dice.between(-16, 16), 54 + dice.between(-8, 8)
    rx, ry = dice.between(19, 25), dice.between(24, 31)
    skin = dice.near(dice.one_of(_SKIN), 8)
    hair = dice.near(_HAIR[person.hair], 14)
    _hair_behind(canvas, person, hair, cx, cy, rx, ry)
    _clothes(canvas, dice, person, cx, cy + ry, skin)
    _face(canvas, dice, cx, cy, rx, ry, skin)
    _hair_before(canvas, dice, person, hair, cx, cy, rx, ry)
    _glasses(canvas, dice, person, cx, cy, rx)
    _marks(canvas, dice, cx, cy, rx, ry)
    return canvas.finish()


def _hair_behind(canvas: _Canvas, person: Person, hair: Colour, cx: int, cy: int, rx: int, ry: int) -> None:
    if person.haircut == "long":
        canvas.paint(canvas.ellipse(cx, cy + 14, rx + 10, ry + 22), hair)
    if person.haircut == "curly":
        for dx, dy in ((-1, 0), (1, 0), (-1, -12), (1, -12), (-1, 12), (1, 12)):
            canvas.paint(canvas.ellipse(cx + dx * rx, cy + dy, 12, 12), hair)


def _clothes(canvas: _Canvas, dice: _Dice, person: Person, cx: int, chin: int, skin: Colour) -> None:
    colour = dice.near(_CLOTHES[person.colour], 14)
    accent = dice.colour()
    wide, top = dice.between(40, 56), chin + dice.between(4, 10)
    canvas.paint(canvas.rectangle(cx - 9, chin - 10, cx + 9, top + 8), tuple(c * 9 // 10 for c in skin))  # type: ignore[arg-type]
    body = canvas.ellipse(cx, top + 54, wide, 54)
    canvas.paint(body, colour)
    x, y = canvas.x + dice.below(24), canvas.y + dice.below(24)
    step = dice.between(7, 13)
    pattern = {
        "plain": np.zeros_like(body),
        "striped": x // step % 2 == 0,
        "banded": y // step % 2 == 0,
        "checked": (x // step + y // step) % 2 == 0,
        "dotted": (x % (step + 5) - 6) ** 2 + (y % (step + 5) - 6) ** 2 <= 14,
    }[person.pattern]
    canvas.paint(body & pattern, accent)
    trim = dice.colour()
    if person.garment == "coat":
        canvas.paint(body & (abs(canvas.x - cx) <= 3), trim)
        for row in range(3):
            canvas.paint(canvas.ellipse(cx + 9, top + 16 + 14 * row, 3, 3), trim)
    if person.garment == "scarf":
        canvas.paint(canvas.ellipse(cx, top + 3, 24, 9), trim)
        side = dice.one_of((-15, 9))
        canvas.paint(canvas.rectangle(cx + side, top + 3, cx + side + 9, top + 36), trim)
    if person.garment == "shirt":
        canvas.paint(canvas.triangle(cx, top - 20, 17, top + 8) & body, trim)
    if dice.below(2):
        canvas.paint(canvas.ellipse(cx + dice.one_of((-24, 24)), top + dice.between(20, 34), 5, 5), dice.colour())


def _face(canvas: _Canvas, dice: _Dice, cx: int, cy: int, rx: int, ry: int, skin: Colour) -> None:
    for side in (-1, 1):
        canvas.paint(canvas.ellipse(cx + side * rx, cy + 3, 5, 8), skin)
    canvas.paint(canvas.ellipse(cx, cy, rx, ry), skin)
    eyes, apart = dice.colour(20, 130), dice.between(8, 11)
    for side in (-1, 1):
        canvas.paint(canvas.ellipse(cx + side * apart, cy - 3, 5, 4), (250, 250, 250))
        canvas.paint(canvas.ellipse(cx + side * apart, cy - 3, 2, 3), eyes)
    shade = (skin[0] * 3 // 4, skin[1] * 3 // 4, skin[2] * 3 // 4)
    canvas.paint(canvas.triangle(cx, cy - 2, dice.between(3, 5), cy + 9), shade)
    lips, mouth = dice.near((176, 60, 64), 30), cy + dice.between(14, 17)
    canvas.paint(canvas.ellipse(cx, mouth, dice.between(6, 12), dice.between(2, 5)), lips)
    if dice.below(4) == 0:
        canvas.paint(canvas.ellipse(cx, cy + ry - 4, dice.between(9, 14), 8), dice.near((90, 60, 40), 40))


def _hair_before(
    canvas: _Canvas, dice: _Dice, person: Person, hair: Colour, cx: int, cy: int, rx: int, ry: int
) -> None:
    if person.haircut == "bald":
        return
    line = cy - dice.between(11, 17)
    cap = canvas.ellipse(cx, cy - 4, rx + 4, ry + 3) & (canvas.y < line)
    canvas.paint(cap, hair)
    if person.haircut == "spiky":
        for k in range(-2, 3):
            canvas.paint(canvas.triangle(cx + k * 10, cy - ry - dice.between(8, 16), 7, line), hair)
    if person.haircut == "curly":
        for k in range(-2, 3):
            canvas.paint(canvas.ellipse(cx + k * 10, cy - ry + 2 + 3 * k * k // 2, 9, 9), hair)
    if person.haircut != "spiky" and dice.below(2):
        side = dice.one_of((-1, 1))
        canvas.paint(canvas.ellipse(cx + side * 8, cy - ry + 10, 15, 9), hair)


def _glasses(canvas: _Canvas, dice: _Dice, person: Person, cx: int, cy: int, rx: int) -> None:
    if person.glasses == "no":
        return
    frame, y = dice.colour(0, 90), cy - 3
    for side in (-1, 1):
        x = cx + side * 10
        shape = canvas.rectangle if person.glasses == "square" else canvas.ellipse
        outer = shape(*((x - 8, y - 7, x + 9, y + 8) if person.glasses == "square" else (x, y, 9, 9)))
        inner = shape(*((x - 6, y - 5, x + 7, y + 6) if person.glasses == "square" else (x, y, 6, 6)))
        canvas.paint(outer if person.glasses == "dark" else outer & ~inner, frame)
    canvas.paint(canvas.rectangle(cx - rx, y - 2, cx + rx, y) & (abs(canvas.x - cx) > 17), frame)
    canvas.paint(canvas.rectangle(cx - 3, y - 2, cx + 3, y), frame)


def _marks(canvas: _Canvas, dice: _Dice, cx: int, cy: int, rx: int, ry: int) -> None:
    for _ in range(dice.below(3)):
        x, y = cx + dice.between(-rx + 5, rx - 5), cy + dice.between(4, 16)
        canvas.paint(canvas.ellipse(x, y, 2, 2), (70, 40, 30))
    if dice.below(3) == 0:
        canvas.paint(canvas.ellipse(cx + dice.one_of((-1, 1)) * rx, cy + 12, 4, 4), dice.colour(120, 250))
    if dice.below(5) == 0:
        colour = dice.colour()
        canvas.paint(canvas.ellipse(cx, cy - ry + 4, rx + 6, 12) & (canvas.y < cy - ry + 10), colour)
        canvas.paint(canvas.rectangle(cx - rx - 12, cy - ry + 8, cx + rx + 12, cy - ry + 13), colour)


def _party(canvas: _Canvas, dice: _Dice) -> None:
    canvas.gradient(dice.near((250, 220, 230), 30), dice.near((210, 170, 200), 30))
    for _ in range(dice.between(5, 9)):
        x, y, colour = dice.below(_SIDE), dice.below(90), dice.colour()
        canvas.paint(canvas.rectangle(x, y, x + 2, y + 40), (110, 110, 110))
        canvas.paint(canvas.ellipse(x, y, dice.between(8, 13), dice.between(10, 16)), colour)
    for _ in range(14):
        canvas.paint(canvas.ellipse(dice.below(_SIDE), dice.below(_SIDE), 3, 3), dice.colour())


def _beach(canvas: _Canvas, dice: _Dice) -> None:
    canvas.gradient(dice.near((110, 180, 240), 30), dice.near((190, 230, 250), 20))
    sea = dice.between(44, 66)
    canvas.paint(canvas.rectangle(0, sea, _SIDE, _SIDE), dice.near((30, 120, 170), 25))
    canvas.paint(canvas.rectangle(0, sea + dice.between(14, 26), _SIDE, _SIDE), dice.near((236, 214, 150), 20))
    canvas.paint(canvas.ellipse(dice.below(_SIDE), dice.between(6, 30), 11, 11), (255, 240, 130))
    for _ in range(dice.between(2, 4)):
        x = dice.below(_SIDE)
        canvas.paint(canvas.triangle(x, sea - dice.between(16, 30), dice.between(6, 12), sea), dice.colour(120, 255))
    for _ in range(dice.between(1, 3)):
        x, y = dice.below(_SIDE), dice.between(86, 120)
        canvas.paint(canvas.ellipse(x, y, 12, 6), dice.colour())


def _forest(canvas: _Canvas, dice: _Dice) -> None:
    canvas.gradient(dice.near((170, 210, 190), 30), dice.near((60, 100, 50), 25))
    for _ in range(dice.between(6, 10)):
        x, top, half = dice.below(_SIDE), dice.between(-20, 40), dice.between(12, 24)
        canvas.paint(canvas.rectangle(x - 3, top + 50, x + 3, _SIDE), (80, 56, 36))
        canvas.paint(canvas.triangle(x, top, half, top + dice.between(50, 74)), dice.near((36, 110, 56), 30))
    for _ in range(8):
        canvas.paint(canvas.ellipse(dice.below(_SIDE), dice.between(80, 127), 4, 3), dice.colour(100, 250))


def _library(canvas: _Canvas, dice: _Dice) -> None:
    canvas.gradient(dice.near((120, 80, 50), 20), dice.near((90, 60, 40), 20))
    for row in range(5):
        x, floor = dice.below(5), 24 + row * 26
        while x < _SIDE:
            wide = dice.between(6, 13)
            canvas.paint(canvas.rectangle(x, floor - dice.between(14, 22), x + wide, floor), dice.colour(30, 220))
            x += wide + dice.below(3)
        canvas.paint(canvas.rectangle(0, floor, _SIDE, floor + 3), (60, 40, 24))


def _city(canvas: _Canvas, dice: _Dice) -> None:
    canvas.gradient(dice.near((20, 20, 60), 15), dice.near((70, 50, 110), 25))
    x = -dice.below(10)
    while x < _SIDE:
        wide, top = dice.between(14, 30), dice.between(10, 70)
        canvas.paint(canvas.rectangle(x, top, x + wide, _SIDE), dice.near((50, 50, 70), 25))
        for wy in range(top + 5, _SIDE, 11):
            for wx in range(x + 3, x + wide - 5, 9):
                if dice.below(2):
                    canvas.levels[max(0, wy) : wy + 5, max(0, wx) : max(0, wx + 5)] = (250, 220, 120)
        x += wide + dice.below(5)
    canvas.paint(canvas.ellipse(dice.below(_SIDE), dice.between(8, 24), 9, 9), (240, 240, 220))


def _kitchen(canvas: _Canvas, dice: _Dice) -> None:
    canvas.gradient(dice.near((236, 232, 214), 15), dice.near((220, 210, 190), 15))
    tile, step = dice.colour(120, 240), dice.between(12, 18)
    canvas.paint((canvas.x // step + canvas.y // step) % 2 == 0, tile)
    canvas.paint(canvas.rectangle(0, dice.between(78, 92), _SIDE, _SIDE), dice.colour(60, 200))
    for _ in range(dice.between(4, 6)):
        x, y, colour = dice.below(_SIDE), dice.between(12, 80), dice.colour(30, 220)
        canvas.paint(canvas.rectangle(x, y, x + 5, y + 24), colour)
        canvas.paint(canvas.ellipse(x + 2, y + 24, dice.between(8, 12), 10), colour)


def _snow(canvas: _Canvas, dice: _Dice) -> None:
    canvas.gradient(dice.near((150, 180, 220), 25), dice.near((236, 242, 250), 8))
    for _ in range(dice.between(3, 5)):
        x, top, half = dice.below(_SIDE), dice.between(4, 44), dice.between(30, 60)
        canvas.paint(canvas.triangle(x, top, half, 96), dice.near((110, 124, 150), 25))
        canvas.paint(canvas.triangle(x, top, half * 20 // (96 - top), top + 20), (246, 248, 252))
    for _ in range(24):
        canvas.paint(canvas.ellipse(dice.below(_SIDE), dice.below(_SIDE), 2, 2), (255, 255, 255))


def _stage(canvas: _Canvas, dice: _Dice) -> None:
    curtain = dice.near((150, 30, 40), 40)
    canvas.gradient(curtain, tuple(c // 2 for c in curtain))  # type: ignore[arg-type]
    step = dice.between(8, 14)
    canvas.paint((canvas.x + dice.below(20)) // step % 2 == 0, dice.near(curtain, 30))
    for _ in range(dice.between(2, 4)):
        x, colour = dice.below(_SIDE), dice.colour(150, 255)
        canvas.paint(canvas.triangle(x, 0, dice.between(12, 26), dice.between(60, 110)), colour)
    canvas.paint(canvas.rectangle(0, dice.between(92, 108), _SIDE, _SIDE), dice.near((110, 76, 46), 25))


def _garden(canvas: _Canvas, dice: _Dice) -> None:
    canvas.gradient(dice.near((180, 220, 250), 20), dice.near((200, 230, 200), 20))
    canvas.paint(canvas.rectangle(0, dice.between(46, 70), _SIDE, _SIDE), dice.near((90, 170, 70), 30))
    for _ in range(dice.between(8, 13)):
        x, y, r, colour = dice.below(_SIDE), dice.between(34, 124), dice.between(3, 6), dice.colour(110, 255)
        for dx, dy in ((-r, 0), (r, 0), (0, -r), (0, r)):
            canvas.paint(canvas.ellipse(x + dx, y + dy, r, r), colour)
        canvas.paint(canvas.ellipse(x, y, 3, 3), (250, 220, 60))


def _station(canvas: _Canvas, dice: _Dice) -> None:
    canvas.gradient(dice.near((190, 190, 196), 20), dice.near((140, 140, 146), 20))
    top, train = dice.between(20, 40), dice.colour(40, 220)
    canvas.paint(canvas.rectangle(0, top, _SIDE, top + 60), train)
    canvas.paint(canvas.rectangle(0, top + dice.between(34, 44), _SIDE, top + 50), dice.colour(40, 240))
    offset, step = dice.below(20), dice.between(20, 30)
    for x in range(-offset, _SIDE, step):
        canvas.paint(canvas.rectangle(x, top + 8, x + step - 7, top + 28), dice.near((170, 210, 230), 40))
    x, y = dice.below(100), dice.between(2, 10)
    canvas.paint(canvas.rectangle(x, y, x + 30, y + 14), dice.colour(20, 120))
    canvas.paint(canvas.rectangle(x + 4, y + 4, x + 26, y + 9), (250, 250, 210))


_SCENES = dict(
    zip(
        _PLACES,
        (_party, _beach, _forest, _library, _city, _kitchen, _snow, _stage, _garden, _station),
        strict=True,
    )
)
