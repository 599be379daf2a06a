"""Progress on standard error: bars on a terminal, plain lines elsewhere."""

import sys
from time import monotonic
from typing import TextIO

from tqdm import tqdm

EVERY = 10.0


class Bars:
    """A bar for each stage: items, rate, remaining time."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._bar: tqdm | None = None
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """Move the stage's bar."""
        if stage != self._stage:
            self.close()
            self._stage = stage
            self._bar = tqdm(total=total, initial=done, desc=f"{stage:12}", unit=f" {unit}", file=self._stream)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def tell(self, words: str) -> None:
        """Print a line above the bar."""
        tqdm.write(words, file=self._stream)

    def close(self) -> None:
        """End the last bar."""
        if self._bar is not None:
            self._bar.close()


class Lines:
    """A line where a stage begins, every ten seconds, and where it ends."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._stage = ""
        self._began = self._told = 0.0
        self._first = 0

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """Print a line where one is due."""
        now = monotonic()
        if stage != self._stage:
            self._stage, self._began, self._first = stage, now, done
            if done < total:
                self._told = now
                return
        if done < total and now - self._told < EVERY:
            return
        self._told = now
        print(f"{stage}: {done:,} of {total:,} {unit}{self._rate(done, total, now)}", file=self._stream, flush=True)

    def tell(self, words: str) -> None:
        """Print a line."""
        print(words, file=self._stream, flush=True)

    def close(self) -> None:
        """Do nothing: every line is out."""

    def _rate(self, done: int, total: int, now: float) -> str:
        new, seconds = done - self._first, now - self._began
        if not new:
            return ", nothing to do" if done >= total else ""
        left = f", {(total - done) * seconds / new:.0f} s left" if done < total else f" in {seconds:.1f} s"
        return f", {new / max(seconds, 1e-9):,.0f}/s{left}"


def watcher(stream: TextIO | None = None) -> Bars | Lines:
    """Return bars for a terminal and lines for anything else: of `stream`, or of what is standard error by now."""
    stream = stream or sys.stderr
    return Bars(stream) if stream.isatty() else Lines(stream)
