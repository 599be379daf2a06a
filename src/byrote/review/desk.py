"""What the page knows while people judge: whose turn it is at which pair, and what was said so far.

The database of verdicts is the only truth: what is here is read from it, and an answer goes out after its commit.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock

from byrote.review import verdicts
from byrote.review.pairs import Mode, Shown, dealt
from byrote.review.verdicts import TOLD, Said

OPEN = "open"
"""Stands for no verdict where pairs are looked for by theirs."""


class Conflict(ValueError):
    """What cannot be stored as it stands: another verdict with a key that was used, or on a pair that was told of."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A pair in a reviewer's queue: its ordinal there, what they said of it last, whether they know its facts."""

    ordinal: int
    pair: Shown
    verdict: str | None
    note: str
    level: int | None = None
    told: bool = False


class Desk:
    """The pairs, the reviewers' queues and the verdicts; may be called from any thread.

    Pairs on whose being a copy two reviewers disagree are added to the end of the queues of those who have not judged
    them: a second opinion. So is what a reviewer judged though it was not dealt to them. A queue only ever grows, so
    that an ordinal stays what it is.

    Pairs that were found to have lost an image wait for nobody: they are neither open nor counted until judged.
    """

    def __init__(
        self, mode: Mode, pairs: Sequence[Shown], names: Sequence[str], file: Path, overlap: float = 1.0
    ) -> None:
        self.mode, self.pairs, self.file = mode, pairs, file
        self.by_id = {pair.id: pair for pair in pairs}
        self._places = {(pair.picture, pair.sample): place for place, pair in enumerate(pairs)}
        self._queues = dealt(pairs, names, overlap, mode)
        self._theirs = {name: set(queue) for name, queue in self._queues.items()}
        self._last: dict[str, dict[int, tuple[str, str, int | None]]] = {name: {} for name in names}
        self._told: dict[str, set[int]] = {name: set() for name in names}
        self._gone: set[int] = set()
        self._keys: dict[str, Said] = {}
        self._number = 0
        self._held: sqlite3.Connection | None = None
        self._writing = RLock()  # of the database
        self._lock = Lock()  # of what is in memory, so that whoever reads waits for no disk
        self.refresh()

    def refresh(self) -> None:
        """Read the events that were added since, by whomever. Raises StoreError."""
        with self._writing:
            self._number, events = verdicts.since(self.file, self._number)
            with self._lock:
                for said in events:
                    self._take(said)

    def judge(self, name: str, pair: Shown, verdict: str | None, note: str, key: str, level: int | None = None) -> bool:
        """Store a verdict, or take the last one back (None), and tell whether it was new; durable once it returns.

        The same key with the same content again changes nothing. Raises Conflict where its content differs or the
        reviewer was told of the pair, StoreError where the database refuses.
        """
        said = Said(name, pair.picture, pair.sample, verdict, note, f"page {name} {key}", level)
        with self._writing:
            self.refresh()
            if self._keys.get(said.key, said) != said:
                raise Conflict("this key was used for another verdict")
            if said.key not in self._keys and self._places[pair.picture, pair.sample] in self._told[name]:
                raise Conflict("you were told of this pair, so its verdict stays")
            return self._added(said)

    def tell(self, name: str) -> None:
        """Let a reviewer know the facts of what they judged; what they said of it stays from then on.

        Raises Conflict while they have anything to judge, or where there is nothing to tell that was hidden.
        """
        with self._writing:
            self.refresh()
            count, judged = self.counts(name)
            if self.mode == "explore" or judged < count:
                raise Conflict(f"{count - judged:,} pairs of yours are open")
            self._added(Said(name, "", "", TOLD, f"after {judged:,} verdicts", f"told {name} {judged}"))

    def _added(self, said: Said) -> bool:
        new = verdicts.add(self.file, [said]) > 0
        self._held = self._held or verdicts.held(self.file)
        self._keys[said.key] = said
        self.refresh()
        return new

    def turns(self, name: str, start: int, count: int) -> list[Turn]:
        """Return some of a reviewer's queue, from an ordinal on."""
        with self._lock:
            queue = self._queues[name]
            return [self._turn(name, k) for k in range(max(0, start), min(len(queue), start + count))]

    def open_turns(self, name: str, after: int, count: int) -> list[Turn]:
        """Return the next that a reviewer has not judged, after an ordinal and then from the beginning."""
        with self._lock:
            queue, said = self._queues[name], self._last[name]
            found: list[Turn] = []
            for step in range(1, len(queue) + 1):
                ordinal = (after + step) % len(queue)
                if queue[ordinal] not in said and queue[ordinal] not in self._gone:
                    found.append(self._turn(name, ordinal))
                if len(found) == count:
                    break
            return found

    def found(self, name: str, text: str, after: int, verdict: str = "") -> Turn | None:
        """Return the next turn of which a text is known, in any case: after an ordinal, then from the start; or None.

        Every word of it has to be there, in the reviewer's note or in whatever fact they may know. With a `verdict` it
        is one of which the reviewer said that last; `OPEN` is for those of which they said nothing.
        """
        wanted = text.casefold().split()
        with self._lock:
            queue = self._queues[name]
            for step in range(1, len(queue) + 1):
                ordinal = (after + step) % len(queue)
                said = self._last[name].get(queue[ordinal], (OPEN,))[0]
                if verdict in ("", said) and self._knows(name, queue[ordinal], wanted):
                    return self._turn(name, ordinal)
        return None

    def _knows(self, name: str, place: int, wanted: Sequence[str]) -> bool:
        """Tell whether all words are in what a reviewer knows of a pair."""
        facts = self.pairs[place].facts.values() if self._is_told(name, place) else ()
        note = self._last[name].get(place, ("", ""))[1]
        known = " ".join([note, *map(str, facts)]).casefold()
        return all(word in known for word in wanted)

    def disputed(self) -> tuple[int, int]:
        """Return how many pairs two disagree on, and of how many of these everybody here has judged them all."""
        with self._lock:
            split = [place for place in range(len(self.pairs)) if self._is_split(place)]
            stuck = [place for place in split if all(place in self._last[name] for name in self._queues)]
            return len(split), len(stuck)

    def counts(self, name: str) -> tuple[int, int]:
        """Return how many pairs a reviewer has that can be judged or are, and how many of them they have judged."""
        with self._lock:
            judged = sum(place in self._theirs[name] for place in self._last[name])
            lost = sum(place in self._theirs[name] and place not in self._last[name] for place in self._gone)
            return len(self._queues[name]) - lost, judged

    def length(self, name: str) -> int:
        """Return how long a reviewer's queue is, with the pairs that lost an image."""
        with self._lock:
            return len(self._queues[name])

    def lose(self, pair: Shown) -> None:
        """Ask nobody for a verdict on a pair any more, because an image of it is gone."""
        with self._lock:
            self._gone.add(self._places[pair.picture, pair.sample])

    def latest(self) -> Mapping[tuple[str, str, str], str]:
        """Return the last verdict of every reviewer on every pair, of those too who are not here."""
        return verdicts.latest(self.file)

    def _turn(self, name: str, ordinal: int) -> Turn:
        place = self._queues[name][ordinal]
        verdict, note, level = self._last[name].get(place, (None, "", None))
        return Turn(ordinal, self.pairs[place], verdict, note, level, self._is_told(name, place))

    def _is_told(self, name: str, place: int) -> bool:
        return self.mode == "explore" or place in self._told[name]

    def _take(self, said: Said) -> None:
        self._keys[said.key] = said
        if said.verdict == TOLD:
            self._told.setdefault(said.reviewer, set()).update(self._last.get(said.reviewer, ()))
        place = self._places.get((said.picture, said.sample))
        if place is None or place in self._told.get(said.reviewer, ()):
            return
        mine = self._last.setdefault(said.reviewer, {})
        if said.verdict is None:
            mine.pop(place, None)
        else:
            mine[place] = said.verdict, said.note, said.level
            self._queue(said.reviewer, place)
        if self.mode == "measure":
            self._ask_another(place)

    def _ask_another(self, place: int) -> None:
        """Queue a pair of two opinions for everybody who has it not yet."""
        if not self._is_split(place):
            return
        for name in self._queues:
            self._queue(name, place)

    def _queue(self, name: str, place: int) -> None:
        """Add a pair to the end of a reviewer's queue, unless it is there."""
        if name in self._queues and place not in self._theirs[name]:
            self._queues[name].append(place)
            self._theirs[name].add(place)

    def _is_split(self, place: int) -> bool:
        """Tell whether two or more judged a pair and no majority says that it is a copy, or that it is none."""
        opinions = [said[place][0] for said in self._last.values() if place in said]
        copies, unsure = opinions.count("copy"), opinions.count("unsure")
        return len(opinions) > 1 and 2 * max(copies, len(opinions) - copies - unsure) <= len(opinions)
