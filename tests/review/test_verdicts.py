"""Verdicts are only added, each once, in a chain; tables that are wrong change nothing."""

import csv
import io
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byrote.errors import ByroteError, StoreError
from byrote.review import VERDICTS, verdicts
from byrote.review.verdicts import FIRST, Said

PAIRS = {f"p{k:04d}": (f"picture {k}", f"sample {k}") for k in range(1, 30)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / verdicts.FILE


def event(pair=1, verdict="copy", reviewer="ann", key=None, note=""):
    return Said(
        reviewer, f"picture {pair}", f"sample {pair}", verdict, note, key or f"{reviewer} {pair} {verdict} {note}"
    )


def place(pair=1, reviewer="ann"):
    return reviewer, f"picture {pair}", f"sample {pair}"


def rows(path):
    with sqlite3.connect(path) as store:
        found = store.execute("SELECT * FROM events ORDER BY number").fetchall()
    store.close()
    return found


def change(path, statement):
    with sqlite3.connect(path) as store:
        store.executescript(statement)
    store.close()


def table(path, *lines, first="id,verdict,note"):
    path.write_text("\n".join([first, *lines, ""]), encoding="utf-8")
    return path


def test_the_last_verdict_of_each_reviewer_on_each_pair_counts(path):
    assert verdicts.latest(path) == {}
    assert verdicts.add(path, [event(1), event(2), event(1, reviewer="bob")]) == 3
    assert verdicts.add(path, [event(1, "no")]) == 1
    assert verdicts.latest(path) == {place(1): "no", place(2): "copy", place(1, "bob"): "copy"}
    assert [row[5] for row in rows(path)] == ["copy", "copy", "copy", "no"]


def test_a_verdict_that_is_taken_back_is_none_and_may_be_given_again(path):
    verdicts.add(path, [event(1), event(2)])
    assert verdicts.add(path, [event(1, None)]) == 1
    assert verdicts.latest(path) == {place(2): "copy"}
    assert verdicts.add(path, [event(1, None, key="once more")]) == 0
    assert verdicts.add(path, [event(1, "copy", key="again")]) == 1
    assert verdicts.latest(path) == {place(1): "copy", place(2): "copy"}
    assert len(rows(path)) == 4


def test_nothing_to_take_back_is_no_event(path):
    assert verdicts.add(path, [event(1, None)]) == 0


def test_adding_the_same_again_adds_nothing(path):
    said = [event(k) for k in range(5)]
    assert [verdicts.add(path, said) for _ in range(3)] == [5, 0, 0]
    assert verdicts.add(path, [*said, said[0], event(7), event(7)]) == 1


def test_a_sender_that_tries_again_later_does_not_undo_what_came_after(path):
    first = event(1, "copy", key="k1")
    verdicts.add(path, [first])
    verdicts.add(path, [event(1, "no", key="k2")])
    assert verdicts.add(path, [first]) == 0
    assert verdicts.latest(path) == {place(1): "no"}


def test_who_comes_back_to_an_earlier_verdict_is_heard(tmp_path, path):
    """The same line in a later table; once the events were told apart by what they say, and the third was lost."""
    for verdict in ("copy", "no", "copy"):
        said = verdicts.read_table(table(tmp_path / "t.csv", f"p0001,{verdict},"), "ann", PAIRS)
        assert verdicts.add(path, said) == 1
        assert verdicts.add(path, verdicts.read_table(tmp_path / "t.csv", "ann", PAIRS)) == 0
    assert verdicts.latest(path) == {place(1): "copy"}
    assert verdicts.check(path) == []


def test_a_changed_note_is_an_event_and_the_verdict_stays(path):
    verdicts.add(path, [event(1)])
    assert verdicts.add(path, [event(1, note="the same scarf")]) == 1
    assert verdicts.latest(path) == {place(1): "copy"}


def test_either_all_events_are_added_or_none(path):
    verdicts.add(path, [event(1)])
    with pytest.raises(StoreError):
        verdicts.add(path, [event(2), replace(event(3), note=None)])
    assert verdicts.latest(path) == {place(1): "copy"}
    assert verdicts.add(path, [event(2)]) == 1


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([*VERDICTS, None]), st.sampled_from("ab")), max_size=20))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_said_the_chain_holds_and_the_last_word_counts(tmp_path, said):
    path = tmp_path / f"{os.urandom(8).hex()}.sqlite"
    last = {}
    for number, (pair, verdict, reviewer) in enumerate(said):
        verdicts.add(path, [event(pair, verdict, reviewer, key=str(number))])
        last[place(pair, reviewer)] = verdict
    assert verdicts.latest(path) == {where: verdict for where, verdict in last.items() if verdict}
    assert not path.exists() or verdicts.check(path) == []


def test_what_is_said_of_a_pair_after_one_was_told_of_it_does_not_count(path):
    verdicts.add(path, [event(1), event(2), event(2, reviewer="bob")])
    verdicts.add(path, [Said("ann", "", "", verdicts.TOLD, "", "told")])
    verdicts.add(path, [event(1, "no"), event(2, None), event(3, "alike"), event(2, "no", "bob")])
    verdicts.add(path, [event(3, "part")])
    assert verdicts.latest(path) == {place(1): "copy", place(2): "copy", place(3): "part", place(2, "bob"): "no"}
    assert [each.number for each in verdicts.events(path) if each.last] == [1, 2, 8, 9]
    assert verdicts.check(path) == []


def test_each_event_carries_the_hash_of_the_one_before(path):
    verdicts.add(path, [event(1), event(2)])
    verdicts.add(path, [event(3)])
    found = rows(path)
    assert [row[0] for row in found] == [1, 2, 3]
    assert [row[8] for row in found] == [FIRST, found[0][9], found[1][9]]
    assert verdicts.head(path) == found[2][9]
    assert all(verdicts.holds(path, row[9]) for row in found)
    assert verdicts.holds(path, FIRST)
    assert not verdicts.holds(path, "f" * 64)
    assert verdicts.check(path) == []


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE events SET verdict = 'no' WHERE number = 2", r"event 2 \(ann\) was changed"),
        ("UPDATE events SET verdict = NULL WHERE number = 2", r"event 2 \(ann\) was changed"),
        ("UPDATE events SET reviewer = 'bob' WHERE number = 1", r"event 1 \(bob\) was changed"),
        ("UPDATE events SET note = x'ff00' WHERE number = 3", r"event 3 \(ann\) was changed"),
        ("UPDATE events SET note = CAST(x'ff' AS TEXT) WHERE number = 3", "verdicts cannot be read"),
        ("UPDATE events SET at = '2020' WHERE number = 4", "event 4"),
        ("UPDATE events SET hash = previous WHERE number = 2", "event 2"),
        ("DELETE FROM events WHERE number = 1", "event 2 does not follow event 0"),
        ("DELETE FROM events WHERE number = 3", "event 4 does not follow event 2"),
        ("UPDATE events SET number = 9 WHERE number = 4", "event 9 does not follow event 3"),
        ("ALTER TABLE events RENAME COLUMN note TO remark", "verdicts cannot be read"),
        ("CREATE VIEW v AS SELECT 1; DROP TABLE events; CREATE VIEW events AS SELECT 1", "verdicts cannot be read"),
    ],
)
def test_what_was_tampered_with_is_named(path, statement, says):
    verdicts.add(path, [event(k) for k in range(1, 5)])
    change(path, statement)
    first, *_ = verdicts.check(path)
    assert re.search(says, first)


def test_a_column_more_is_nothing_to_the_chain(path):
    verdicts.add(path, [event(1)])
    change(path, "ALTER TABLE events ADD COLUMN more TEXT")
    assert verdicts.add(path, [event(2)]) == 1
    assert verdicts.check(path) == []


@pytest.mark.parametrize("statement", ["DELETE FROM events WHERE number = 4", "DROP TABLE events"])
def test_events_that_were_cut_off_at_the_end_are_known_by_their_head(path, statement):
    verdicts.add(path, [event(k) for k in range(1, 5)])
    head = verdicts.head(path)
    change(path, statement)
    assert verdicts.check(path) == []
    assert not verdicts.holds(path, head)


@pytest.mark.parametrize("data", [b"no database", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_told_in_one_line(path, data):
    path.write_bytes(data)
    for does in (lambda: verdicts.add(path, [event()]), lambda: verdicts.latest(path), lambda: verdicts.head(path)):
        with pytest.raises(StoreError, match="cannot be read or written") as caught:
            does()
        assert "\n" not in str(caught.value)
    assert verdicts.check(path)
    assert path.read_bytes() == data


def adds(path, reviewer, start, times):
    """Add one event after the other, as soon as all others are ready to."""
    start.wait()
    for k in range(times):
        assert verdicts.add(path, [event(k, reviewer=reviewer)]) == 1


def test_processes_that_add_at_once_lose_nothing(path):
    """Three at a file that is not there yet, thirty verdicts each, and the chain holds."""
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(3)
    others = [spawn.Process(target=adds, args=(path, f"reviewer {k}", start, 30)) for k in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    assert [other.exitcode for other in others] == [0] * 3
    assert len(verdicts.latest(path)) == 90
    assert [row[0] for row in rows(path)] == list(range(1, 91))
    assert verdicts.check(path) == []


WRITER = """
import sys
from pathlib import Path
from byrote.review.verdicts import Said, add
for k in range(100_000):
    add(Path(sys.argv[1]), [Said("ann", f"picture {k}", f"sample {k}", "copy", "", f"{k}.{j}") for j in range(1)])
    print(k, flush=True)
"""


@pytest.mark.parametrize("after", [1, 40])
def test_a_writer_that_is_killed_loses_nothing_that_it_acknowledged(path, after):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    for _ in range(after):
        writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    rest = writer.stdout.read().split()
    assert writer.wait() == -signal.SIGKILL
    acknowledged = after + len(rest)
    found = verdicts.latest(path)
    assert set(map(place, range(acknowledged))) <= set(found)
    assert len(found) <= acknowledged + 1
    assert verdicts.check(path) == []
    assert verdicts.add(path, [event(10**6)]) == 1


def test_a_table_gives_one_event_for_every_line_with_a_verdict(tmp_path):
    lines = ["p0001,copy,", "p0002,,left out", "p0003, Alike ,two men", "p0004,unsure", 'p0005,no,"a, ""b"""']
    said = verdicts.read_table(table(tmp_path / "t.csv", *lines), "ann", PAIRS)
    assert [(s.picture, s.sample, s.verdict, s.note) for s in said] == [
        ("picture 1", "sample 1", "copy", ""),
        ("picture 3", "sample 3", "alike", "two men"),
        ("picture 4", "sample 4", "unsure", ""),
        ("picture 5", "sample 5", "no", 'a, "b"'),
    ]
    assert len({s.key for s in said}) == 4
    assert {s.reviewer for s in said} == {"ann"}


def test_a_table_without_notes_and_levels_takes_away_none_that_were_given_on_the_page(tmp_path, path):
    page = replace(event(1, note="the same scarf"), level=4)
    verdicts.add(path, [page])
    for lines, first in ((["p0001,copy"], "id,verdict"), (["p0001,copy,"], "id,verdict,note")):
        said = verdicts.read_table(table(tmp_path / "t.csv", *lines, first=first), "ann", PAIRS)
        assert verdicts.add(path, said) == 0
    for lines, now in ((["p0001,no"], ("no", page.note, 4)), (["p0001,no,a hat"], ("no", "a hat", 4))):
        said = verdicts.read_table(table(tmp_path / "t.csv", *lines), "ann", PAIRS)
        assert verdicts.add(path, said) == 1
        last = verdicts.events(path)[-1]
        assert (last.verdict, last.note, last.level) == now
    assert verdicts.check(path) == []


def test_tables_of_spreadsheets_read_alike(tmp_path):
    plain = "id,verdict,note\np0001,copy,x\np0002,no,\n"
    for text in (plain, "\ufeff" + plain, plain.replace("\n", "\r\n"), plain[:-1], "note,id,verdict\nx,p0001,copy\n"):
        (tmp_path / "t.csv").write_bytes(text.encode("utf-8"))
        first, *_ = verdicts.read_table(tmp_path / "t.csv", "ann", PAIRS)
        assert (first.picture, first.verdict, first.note) == ("picture 1", "copy", "x")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["p0001,copy,", "p9999,no,"], "line 3: no pair 'p9999' was drawn"),
        (["p0001,copy,", "1,no,"], "line 3: no pair '1' was drawn"),
        (["p0001,copy,", ",no,"], "line 3: no pair '' was drawn"),
        (["p0001,copy,", "p0002,coppy,"], "line 3: unknown verdict 'coppy' .did you mean 'copy'"),
        (["p0001,copy,", "p0002,=1+1,"], "line 3: unknown verdict '=1[+]1'"),
        (["p0001,copy,", "p0002,yes\x1b[31m,"], r"line 3: unknown verdict 'yes\\x1b\[31m'"),
        (["p0001,copy,", "p0002,copy\x00,"], r"line 3: unknown verdict 'copy\\x00'"),
        (["p0001,copy,", "p0002," + "x" * 9999 + ","], "line 3: unknown verdict 'x{80}'"),
        (["p0001,copy,", "p0001,no,"], "line 3: pair 'p0001' was judged in line 2 already"),
        (["p0001,copy,", "p0002,no," + "x" * 2**20], "line 3: no CSV: field larger than"),
        (['p0001,copy,"two', 'lines"', "p0002,maybe,"], "line 4: unknown verdict 'maybe'"),
        (["p0001,copy,\u2028\x85\x0c", "p0002,maybe,"], "line 3: unknown verdict 'maybe'"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_taken(tmp_path, lines, says):
    file = table(tmp_path / "t.csv", *lines)
    with pytest.raises(ByroteError, match=says) as caught:
        verdicts.read_table(file, "ann", PAIRS)
    told = str(caught.value)
    assert told.startswith(f"{file}: line ")
    assert "nothing of this file was taken" in told
    assert told.isprintable()
    assert len(told) < 500 + len(str(file))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "its columns are None"),
        (b"id;verdict;note\np0001;copy;\n", "its columns are ..id;verdict;note"),
        (b"pair,verdict\np0001,copy\n", "keep id,verdict,note in the first line"),
        ("id,verdict\np0001,copy\n".encode("utf-16"), "cannot be read as UTF-8"),
        (b"id,verdict,note\np0001,no,caf\xe9\n", "cannot be read as UTF-8"),
        (b"x" * 2**20, "line 1: no CSV"),
        (b"id,verdict" + b",y" * 10_000, "cannot be"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused_in_one_line(tmp_path, data, says):
    (tmp_path / "t.csv").write_bytes(data)
    if says == "cannot be":
        assert verdicts.read_table(tmp_path / "t.csv", "ann", PAIRS) == []
        return
    with pytest.raises(ByroteError, match=says) as caught:
        verdicts.read_table(tmp_path / "t.csv", "ann", PAIRS)
    assert str(tmp_path / "t.csv") in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ByroteError, match="cannot be read"):
            verdicts.read_table(path, "ann", PAIRS)


@pytest.mark.parametrize(
    "note", ["=cmd|' /C calc'!A1", "\x1b[2J\x07", "a\x00b", "</td><script>alert(1)</script>", "é" * 9000]
)
def test_hostile_notes_are_kept_as_text_and_cut_to_their_length(tmp_path, path, note):
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([["id", "verdict", "note"], ["p0001", "copy", note]])
    (tmp_path / "t.csv").write_text(sink.getvalue(), encoding="utf-8")
    said = verdicts.read_table(tmp_path / "t.csv", "ann", PAIRS)
    assert verdicts.add(path, said) == 1
    assert rows(path)[0][6] == note[: verdicts.LONGEST_NOTE]
    assert verdicts.add(path, verdicts.read_table(tmp_path / "t.csv", "ann", PAIRS)) == 0
    assert verdicts.check(path) == []


@pytest.mark.parametrize(
    "name", ["", "  ", "ann\x1b[31m", "a\nb", "a\x00", "\udcff", "x" * 101, "x" * 2**20, "\u202eann"]
)
def test_what_is_no_name_of_a_reviewer_is_refused(tmp_path, name):
    with pytest.raises(ByroteError, match="is no name of a reviewer") as caught:
        verdicts.read_table(table(tmp_path / "t.csv", "p0001,copy,"), name, PAIRS)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_one_name_written_in_two_ways_is_one_reviewer():
    assert verdicts.name_of(" Jose\u0301 ") == verdicts.name_of("José") == "José"
    assert verdicts.name_of("=SUM(A1)") == "=SUM(A1)"


def test_a_database_without_levels_is_taken_over_and_stays_whole(path):
    verdicts.add(path, [event()])
    with sqlite3.connect(path) as store:
        store.execute("ALTER TABLE events DROP COLUMN level")
    store.close()
    assert verdicts.latest(path) == {place(): "copy"}
    verdicts.add(path, [event(pair=2, verdict="part", key="k")])
    assert verdicts.check(path) == []
    assert [(each.verdict, each.level) for each in verdicts.events(path)] == [("copy", None), ("part", None)]


def test_a_level_is_in_the_hash_of_its_event_and_another_level_is_another_event(path):
    said = Said("ann", "picture 1", "sample 1", "copy", "", "a", 3)
    assert verdicts.add(path, [said]) == 1
    assert verdicts.add(path, [Said("ann", "picture 1", "sample 1", "copy", "", "b", 3)]) == 0
    assert verdicts.add(path, [Said("ann", "picture 1", "sample 1", "copy", "", "c", 5)]) == 1
    assert verdicts.check(path) == []
    with sqlite3.connect(path) as store:
        store.execute("UPDATE events SET level = 1 WHERE number = 1")
    store.close()
    assert len(verdicts.check(path)) == 1


def test_events_say_which_was_the_last_of_a_reviewer_on_a_pair(path):
    verdicts.add(path, [event(), event(verdict="no"), event(reviewer="bob")])
    assert [(each.reviewer, each.verdict, each.last) for each in verdicts.events(path)] == [
        ("ann", "copy", False),
        ("ann", "no", True),
        ("bob", "copy", True),
    ]
