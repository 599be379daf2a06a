"""How the report says a number or a text of unknown origin."""

import math
import unicodedata

from byrote.kernels.align import Alignment

TEXT = 280
LINE = 2000


def clean(text: str, longest: int = TEXT) -> str:
    """Make a text of unknown origin safe to look at: one line, cut, nothing invisible or that turns text around.

    Joiners stay, since scripts and emoji need them. Everything else of the categories C* becomes U+FFFD.
    """
    cut = text[:longest]
    shown = "".join(" " if c.isspace() else c if _visible(c) else "\ufffd" for c in cut)
    return shown if len(text) <= longest else f"{shown}\u2026 (cut: {len(text):,} characters)"


def _visible(c: str) -> bool:
    return c in "\u200c\u200d" or not unicodedata.category(c).startswith("C")


def distance(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "\u2014"
    return f"{value:.4f}" if math.isfinite(value) else "\u221e"


def number(value: float | None) -> str:
    return "\u2014" if value is None or math.isnan(value) else f"{value:.3g}"


def chance(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "\u2014"
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"


def whole(value: int | None) -> str:
    return "\u2014" if value is None else f"{value:,}"


def percent(share: float) -> str:
    """Round to three digits, but never up to 100 % or down to 0 % what is not."""
    if 0 < share < 0.00005:
        return "under 0.01 %"
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{100 * share:.3g} %"


def share(k: int, n: int) -> str:
    return percent(k / n) if n else "\u2014"


def interval(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"


def seconds(value: float) -> str:
    whole = round(value)
    if whole < 120:
        return f"{value:.1f} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 7200 else f"{whole // 3600:,} h {whole % 3600 // 60} min"


def short(digest: str) -> str:
    return digest.rpartition(":")[2][:12]


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def or_none(n: int) -> str:
    return f"{n:,}" if n else "none"


def are(n: int) -> str:
    return "is" if n == 1 else "are"


def moved(move: Alignment) -> str:
    """Say how a picture was moved onto its sample; nothing where it was not."""
    across, down = (("left", "", "right"), ("top", "", "bottom"))
    words = []
    if move.crop < 1:
        right, low = (1 + round(share) for share in move.at)
        place = " ".join(filter(None, (down[low], across[right]))) or "centre"
        words.append(f"cut to {move.crop:.0%} of its edges ({place})")
    elif move.dx or move.dy:
        by = [(abs(move.dx), across[1 + (move.dx > 0) - (move.dx < 0)])]
        by += [(abs(move.dy), ("up", "", "down")[1 + (move.dy > 0) - (move.dy < 0)])]
        words.append("moved " + " and ".join(f"{n} {way}" for n, way in by if n))
    return ", ".join([*words, *(["mirrored"] if move.flip else [])])
