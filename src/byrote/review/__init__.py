"""What people say of pairs, and what that measures.

A draw picks pairs at random within strata of T, with known chances, and mixes in controls and planted copies; reviewers
judge them without knowing which is which; a measurement turns verdicts into totals, precision and agreement.

    DIR/review/key.json        what each drawn pair is: hide it from reviewers
    DIR/review/sheets/         what they see: pairs/ID.png, pairs.html, verdicts.csv to fill in
    DIR/verdicts.sqlite        what they said, an event a line, each with the hash of the one before
"""

from typing import Literal, get_args

REVIEW = "review"
Verdict = Literal["copy", "part", "alike", "no", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
