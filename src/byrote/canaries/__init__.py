"""Canaries: drawn pictures that a coin puts into a training set or keeps back, so that what the training did is known.

OUT/publish/      those that go into the training set, each in its number of copies, with metadata.csv
OUT/keep/         those that stay out, once each, with metadata.csv: references, and controls of the audit
OUT/canaries.json the coins; who sees it knows the answer
"""

from byrote.canaries.drawing import draw
from byrote.canaries.making import TIERS, Draw, make
from byrote.canaries.record import FORMAT, KINDS, RECORD, Canary, Kind, check, read
from byrote.canaries.scoring import CanaryReport, Tier, report

__all__ = [
    "FORMAT",
    "KINDS",
    "RECORD",
    "TIERS",
    "Canary",
    "CanaryReport",
    "Draw",
    "Kind",
    "Tier",
    "check",
    "draw",
    "make",
    "read",
    "report",
]
