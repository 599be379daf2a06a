"""Lines in one picture: SVG, for the documentation."""

from collections.abc import Mapping, Sequence
from math import log10

from markupsafe import escape

WIDTH, HEIGHT, LEFT, BELOW, KEY = 560, 320, 56, 44, 18
COLOURS = ("#0b6e4f", "#8a8a8a", "#c25b12", "#3b5bb5", "#8e3b8e")
LEAST = 1e-3


def shares(curves: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str, marks: tuple[float, float]) -> str:
    """Draw shares (0 to 1) against shares (logarithmic, from .001), a named line each, and two marks."""
    top = KEY * len(curves) + 12
    rows = [f'<line x1="{_x(marks[0])}" x2="{_x(marks[0])}" y1="{top}" y2="{top + HEIGHT}" class="mark"/>']
    rows += [f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{_y(marks[1], top)}" y2="{_y(marks[1], top)}" class="mark"/>']
    for tick in (0.001, 0.01, 0.1, 1):
        rows.append(f'<text x="{_x(tick)}" y="{top + HEIGHT + 16}" text-anchor="middle">{100 * tick:g} %</text>')
    for tick in (0, 0.25, 0.5, 0.75, 1):
        rows.append(f'<text x="{LEFT - 6}" y="{_y(tick, top) + 4}" text-anchor="end">{100 * tick:g} %</text>')
    for place, (name, curve) in enumerate(curves.items()):
        colour, at = COLOURS[place], KEY * (place + 1)
        points = [(_x(a), _y(b, top)) for a, b in curve]
        path = "M" + "L".join(f"{a} {b}" for a, b in points)
        rows.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) < 12:
            rows += [f'<circle cx="{a}" cy="{b}" r="3.5" fill="{colour}"/>' for a, b in points]
        rows.append(f'<line x1="{LEFT}" x2="{LEFT + 24}" y1="{at}" y2="{at}" stroke="{colour}" stroke-width="3"/>')
        rows.append(f'<text x="{LEFT + 32}" y="{at + 4}">{escape(name)}</text>')
    rows.append(f'<text x="{LEFT + WIDTH / 2}" y="{top + HEIGHT + 36}" text-anchor="middle">{escape(x)}</text>')
    turned = f"rotate(-90 14 {top + HEIGHT / 2})"
    rows.append(f'<text x="14" y="{top + HEIGHT / 2}" text-anchor="middle" transform="{turned}">{escape(y)}</text>')
    frame = f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#444"/>'
    style = "text{font:12px sans-serif;fill:#222}.mark{stroke:#999;stroke-dasharray:4 4}"
    size = f"0 0 {LEFT + WIDTH + 12} {top + HEIGHT + BELOW}"
    inside = "\n".join([frame, *rows])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{inside}\n</svg>\n'
    )


def _x(share: float) -> float:
    return round(LEFT + WIDTH * (1 + log10(max(share, LEAST)) / -log10(LEAST)), 1)


def _y(share: float, top: float) -> float:
    return round(top + HEIGHT * (1 - share), 1)
