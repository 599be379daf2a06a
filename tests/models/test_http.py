"""The client and the journal of models behind HTTP, held against servers that break the protocol."""

import gc
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from byrote.errors import ModelError, StoreError
from byrote.models import Options, Request, http
from byrote.models.journal import Journal, Limits, key_of
from byrote.models.openai import OpenAI
from models.servers import (
    Images,
    State,
    cut,
    cut_chunks,
    drip,
    endless,
    fresh,
    hang,
    reset,
    says,
    serving,
    status,
    tls_of,
)

FAST = "&timeout=5&tries=3&wait=0.005"


def opened(url: str, folder: Path, more: str = "", **options: object) -> OpenAI:
    return OpenAI(f"{url}/v1?model=m&size=16x16&answers=answers{FAST}{more}", Options(**options), folder)


def asking(n: int, prompt: str = "a red hat") -> list[Request]:
    return [Request(prompt, seed) for seed in range(n)]


@pytest.fixture
def server():
    with serving(Images) as (url, state):
        yield url, state


def ledger(folder: Path) -> list[dict]:
    (path,) = (folder / "answers").glob("*/ledger.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def spent(folder: Path) -> Decimal:
    return sum((Decimal(line["cost"]) for line in ledger(folder)), Decimal(0))


@pytest.mark.parametrize(
    ("fault", "owed"),
    [
        (status(500), 2),
        (status(502), 2),
        (status(503), 1),
        (status(429), 1),
        (cut, 2),
        (cut_chunks, 2),
        (reset, 2),
        (says(b"<html>"), 2),
        (says({"data": []}), 2),
        (says({"data": [{"b64_json": "!"}]}), 2),
        (says({"data": [{"b64_json": "aGVsbG8="}]}), 2),
        (says(b"[" * 100_000), 2),
    ],
    ids=["500", "502", "503", "429", "cut", "cut chunks", "reset", "html", "none", "no base64", "no image", "deep"],
)
def test_a_fault_is_mended_by_another_try_and_counted_where_an_image_may_have_been_made(server, tmp_path, fault, owed):
    url, state = server
    state.faults.append(fault)
    model = opened(url, tmp_path, "&price=0.04&budget=1")
    (made,) = model.generate(asking(1))
    assert made.shape == (16, 16, 3)
    assert len(state.posts) == 2
    assert spent(tmp_path) == Decimal("0.04") * owed


def test_the_wait_that_a_server_asks_for_holds_for_all_threads(server, tmp_path):
    url, state = server
    state.faults.append(status(429, retry_after="1"))
    opened(url, tmp_path, "&parallel=1").generate(asking(2))
    first, *others = [one.at for one in state.posts]
    assert 0.95 < others[0] - first < 3
    assert len(others) == 2


def test_a_date_to_wait_until_is_understood():
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < http._retry_after(date) <= 30
    assert http._retry_after("soon") is None
    assert http._retry_after("-5") is None
    assert http._retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0


def test_a_wait_beyond_all_patience_ends_the_run(server, tmp_path):
    url, state = server
    state.faults.append(status(429, retry_after="86400"))
    with pytest.raises(ModelError, match=r"asks to wait 86400 s: run again then"):
        opened(url, tmp_path).generate(asking(1))


def test_pauses_double_and_vary(server, tmp_path):
    url, state = server
    state.faults.extend([status(500)] * 3)
    OpenAI(f"{url}/v1?model=m&size=16x16&answers=a&tries=4&wait=0.1", Options(), tmp_path).generate(asking(1))
    at = [one.at for one in state.posts]
    gaps = np.diff(at)
    for gap, pause in zip(gaps, (0.1, 0.2, 0.4), strict=True):
        assert pause * 0.5 <= gap <= pause * 1.5 + 0.15


def test_a_server_that_keeps_failing_is_told_in_its_words_but_without_the_key(server, tmp_path, monkeypatch):
    url, state = server
    monkeypatch.setenv("BYROTE_HTTP_KEY", "sk-very-secret")
    state.faults.extend([status(500, message="bad\nkey sk-very-secret \x1b[31m")] * 3)
    with pytest.raises(ModelError) as failed:
        opened(url, tmp_path).generate(asking(1))
    assert "HTTP 500: bad key ***" in str(failed.value)
    assert "(3 tries)" in str(failed.value)
    assert str(failed.value).isprintable()
    assert state.posts[0].headers["Authorization"] == "Bearer sk-very-secret"


def test_the_key_is_in_no_file_and_no_text_of_the_model(server, tmp_path, monkeypatch):
    url, _ = server
    monkeypatch.setenv("BYROTE_HTTP_KEY", "sk-very-secret")
    model = opened(url, tmp_path)
    model.generate(asking(3))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not any(b"sk-very" in path.read_bytes() for path in files)
    assert "sk-very" not in repr(vars(model)) + model.digest + model.name


def test_silence_and_drips_end_at_the_timeout(server, tmp_path):
    url, state = server
    state.faults.extend([hang(0.6), drip(2.0)])
    began = time.monotonic()
    OpenAI(f"{url}/v1?model=m&size=16x16&answers=a&timeout=0.3&wait=0.01", Options(), tmp_path).generate(asking(1))
    assert 0.6 <= time.monotonic() - began < 1.6
    assert len(state.posts) == 3


@pytest.mark.parametrize("fault", [endless, says({}, content_length=str(10**10))], ids=["endless", "a lie"])
def test_a_huge_answer_is_not_read(server, tmp_path, fault, monkeypatch):
    url, state = server
    monkeypatch.setattr(http, "LARGEST", 2**20)
    state.faults.append(fault)
    with pytest.raises(ModelError, match="an answer of"):
        opened(url, tmp_path).generate(asking(1))
    assert len(state.posts) == 1


def test_a_redirect_is_refused_and_takes_no_key_along(server, tmp_path, monkeypatch):
    url, state = server
    monkeypatch.setenv("BYROTE_HTTP_KEY", "sk-very-secret")
    with serving(Images) as (elsewhere, other):
        state.faults.append(status(307, location=f"{elsewhere}/v1/images/generations"))
        with pytest.raises(ModelError, match=f"redirects to {re.escape(elsewhere)}: refused"):
            opened(url, tmp_path).generate(asking(1))
        assert other.asked == []


def test_a_packed_answer_is_refused(server, tmp_path):
    url, state = server
    state.faults.append(says(b"\x1f\x8b", content_encoding="gzip"))
    with pytest.raises(ModelError, match="a packed answer"):
        opened(url, tmp_path).generate(asking(1))


def test_a_server_that_is_not_there_is_told_in_a_line(tmp_path):
    with pytest.raises(ModelError, match=r"127.0.0.1:9/v1: it cannot be reached, so start it .* \(3 tries\)"):
        opened("http://127.0.0.1:9", tmp_path, "&price=1&budget=2").generate(asking(1))
    assert spent(tmp_path) == 0


def test_what_is_not_http_is_told_in_a_line(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        for _ in range(3):
            peer, _ = listener.accept()
            peer.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            peer.close()

    threading.Thread(target=greet).start()
    with pytest.raises(ModelError, match=r"the connection broke \(3 tries\)"):
        opened(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path).generate(asking(1))
    listener.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    with serving(Images, tls=tls_of(tmp_path)) as (url, state):
        assert url.startswith("https://")
        with pytest.raises(ModelError, match="TLS failed"):
            opened(url, tmp_path).generate(asking(1))
        assert state.asked == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("ftp://host?model=m", "names no server"),
        ("http://?model=m", "names no server"),
        ("http://host:port?model=m", "names no server"),
        ("https://user:hunter2@host/v1?model=m", "a password in the address of host"),
        ("http://h?model=m&budget=1", "price and budget go together"),
        ("http://h?model=m&price=1", "price and budget go together"),
        ("http://h?model=m&price=free&budget=1", "setting price is 'free'"),
        ("http://h?model=m&price=nan&budget=1", "setting price is 'nan'"),
        ("http://h?model=m&price=-1&budget=1", "setting price is '-1'"),
        ("http://h?model=m&rate=0", "setting rate is '0'"),
        ("http://h?model=m&tries=2.5", "a whole number"),
        ("http://h?model=m&timeout=never", "setting timeout is 'never'"),
        ("http://h?model=m&paralel=2", r"did you mean 'parallel'"),
    ],
)
def test_a_wrong_setting_is_named_when_the_model_is_opened(tmp_path, uri, says):
    with pytest.raises(ModelError, match=says) as failed:
        OpenAI(uri, Options(), tmp_path)
    assert "hunter2" not in str(failed.value)
    assert len(str(failed.value).splitlines()) == 1


def test_a_key_goes_to_no_far_host_in_the_clear(tmp_path, monkeypatch):
    monkeypatch.setenv("BYROTE_HTTP_KEY", "sk-very-secret")
    with pytest.raises(ModelError, match=r"would go to images.example.com in the clear"):
        OpenAI("http://images.example.com/v1?model=m", Options(), tmp_path)
    for near in ("10.0.0.7:80", "gpu-box:8000", "[::1]:80", "127.1", "nas.local.", "localhost:5000"):
        OpenAI(f"http://{near}/v1?model=m", Options(), tmp_path)
    OpenAI("https://images.example.com/v1?model=m", Options(), tmp_path)


def test_a_key_with_a_line_feed_is_refused_without_being_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("BYROTE_HTTP_KEY", "sk-very\nX: secret")
    with pytest.raises(ModelError, match="BYROTE_HTTP_KEY holds more than printable") as failed:
        OpenAI("http://localhost/v1?model=m", Options(), tmp_path)
    assert "sk-very" not in str(failed.value)


def test_as_many_requests_are_under_way_as_the_plan_says_and_no_more(tmp_path):
    with serving(Images, slow=0.05) as (url, state):
        opened(url, tmp_path, "&parallel=3").generate(asking(12))
        assert state.busiest == 3


def test_requests_keep_the_rate(server, tmp_path):
    url, state = server
    began = time.monotonic()
    opened(url, tmp_path, "&rate=1200").generate(asking(8))
    for k, at in enumerate(sorted(one.at for one in state.posts)):
        assert at - began >= k * 0.05 - 0.01


def test_who_waits_for_another_try_ends_when_a_neighbour_fails_for_good(server, tmp_path):
    url, state = server
    state.faults.extend([status(500), status(401)])
    began = time.monotonic()
    with pytest.raises(ModelError, match="HTTP 401"):
        OpenAI(f"{url}/v1?model=m&size=16x16&answers=a&wait=30&parallel=2", Options(), tmp_path).generate(asking(2))
    assert time.monotonic() - began < 10


def test_no_answer_waits_for_another_whose_name_begins_alike(server, tmp_path):
    url, state = server
    model = OpenAI(f"{url}/v1?model=m&size=16x16&answers=a&wait=30&parallel=2", Options(), tmp_path)
    starts: dict[str, Request] = {}
    for one in asking(300):
        other = starts.setdefault(key_of(model.digest, one)[:2], one)
        if other is not one:
            break
    state.faults.extend([status(500), status(401)])
    began = time.monotonic()
    with pytest.raises(ModelError, match="HTTP 401"):
        model.generate([one, other])
    assert time.monotonic() - began < 10
    assert len(state.posts) == 2


def test_no_lock_is_left_where_there_is_an_answer(server, tmp_path):
    url, _ = server
    opened(url, tmp_path).generate(asking(5))
    assert len(list((tmp_path / "answers").rglob("*.png"))) == 5
    assert [path.name for path in (tmp_path / "answers").rglob("*.lock")] == []


def test_nothing_is_asked_twice_not_even_after_the_model_is_opened_anew(server, tmp_path):
    url, state = server
    first = opened(url, tmp_path).generate(asking(5))
    again = opened(url, tmp_path).generate(asking(7))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=False))
    assert len(state.posts) == 7


def test_the_spending_limit_stops_before_it_is_passed_and_a_larger_one_goes_on(server, tmp_path):
    url, state = server
    with pytest.raises(ModelError, match=r"spending limit: 0.28 of budget 0.3 are spent.*raise budget"):
        opened(url, tmp_path, "&price=0.04&budget=0.3").generate(asking(20))
    assert len(state.posts) == 7
    with pytest.raises(ModelError, match="spending limit"):
        opened(url, tmp_path, "&price=0.04&budget=0.3").generate(asking(20))
    assert len(state.posts) == 7
    made = opened(url, tmp_path, "&price=0.04&budget=0.8").generate(asking(20))
    assert len({image.tobytes() for image in made}) == 20
    assert len(state.posts) == 20
    assert spent(tmp_path) == Decimal("0.8")


def test_other_settings_draw_anew_but_spend_from_the_same_budget(server, tmp_path):
    url, state = server
    opened(url, tmp_path, "&price=1&budget=3").generate(asking(2))
    with pytest.raises(ModelError, match="spending limit"):
        opened(url, tmp_path, "&price=1&budget=3&quality=low").generate(asking(2))
    assert len(state.posts) == 3


def test_a_ledger_that_a_crash_tore_is_mended_and_a_damaged_one_is_not_trusted(tmp_path):
    journal = Journal(tmp_path / "j", Limits(Decimal(1), Decimal(3)))
    journal.asked(["aa"])
    path = tmp_path / "j" / "ledger.jsonl"
    with path.open("ab") as file:
        file.write(b'{"event": "asked", "cost": "1')
    again = Journal(tmp_path / "j", Limits(Decimal(1), Decimal(3)))
    assert again.spent == 1
    again.asked(["bb"])
    assert journal.spent == 2, "another process's lines are read too"
    assert len(path.read_text().splitlines()) == 2
    path.write_text('{"event": "asked"}\n')
    with pytest.raises(ModelError, match=r"ledger.jsonl is damaged"):
        Journal(tmp_path / "j", Limits(Decimal(1), Decimal(3))).asked(["cc"])


def test_a_damaged_answer_is_named_and_not_paid_again_unasked(server, tmp_path):
    url, state = server
    opened(url, tmp_path).generate(asking(1))
    (path,) = (tmp_path / "answers").rglob("*.png")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelError, match=f"{path.name} is damaged .*remove it, to ask and pay again"):
        opened(url, tmp_path).generate(asking(1))
    path.unlink()
    opened(url, tmp_path).generate(asking(1))
    assert len(state.posts) == 2


def test_the_journal_is_the_users_alone_and_holds_no_prompt(server, tmp_path):
    url, _ = server
    opened(url, tmp_path).generate(asking(1, "a private thing"))
    (folder,) = (tmp_path / "answers").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not any(b"private" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_without_a_folder_of_its_own_the_journal_lies_in_the_users_cache(server, tmp_path, monkeypatch):
    url, _ = server
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    OpenAI(f"{url}/v1?model=m&size=16x16", Options(), tmp_path).generate(asking(1))
    assert len(list((tmp_path / "cache" / "byrote" / "answers").iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_asked(server, tmp_path):
    url, state = server
    (tmp_path / "answers").write_text("a file is in the way")
    with pytest.raises(StoreError, match="cannot write"):
        opened(url, tmp_path).generate(asking(1))
    assert state.asked == []


def test_opening_sends_and_writes_nothing(server, tmp_path):
    url, state = server
    opened(url, tmp_path)
    assert state.asked == []
    assert list(tmp_path.iterdir()) == []


CLIENT = """
import signal
import sys
from pathlib import Path
from byrote.models import Options, Request
from byrote.models.openai import OpenAI
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would pass on that it is ignored
uri, folder, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
made = OpenAI(uri, Options(), folder).generate([Request("a red hat", seed) for seed in range(n)])
print(len({image.tobytes() for image in made}))
"""


def client(url: str, folder: Path, n: int, more: str = "") -> subprocess.Popen:
    uri = f"{url}/v1?model=m&size=16x16&answers=answers&wait=0.01{more}"
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, uri, str(folder), str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(state: State, posts: int) -> None:
    until = time.monotonic() + 20
    while len(state.posts) < posts:
        assert time.monotonic() < until, f"{len(state.posts)} of {posts} requests"
        time.sleep(0.005)


def test_a_killed_client_goes_on_without_asking_twice_and_without_forgetting_what_it_spent(tmp_path):
    with serving(Images, slow=0.03) as (url, state):
        more = "&parallel=2&price=0.04&budget=2"
        killed = client(url, tmp_path, 40, more)
        wait_for(state, 12)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        time.sleep(0.1)
        before, kept = len(state.posts), len(list((tmp_path / "answers").rglob("*.png")))
        assert 12 <= before <= 16
        assert before - 3 <= kept <= before, "at most what was under way is lost"
        out, err = client(url, tmp_path, 40, more).communicate(timeout=30)
        assert out.strip() == b"40", err
        assert len(state.posts) == before + 40 - kept
        paid = [line for line in ledger(tmp_path) if line["event"] == "asked"]
        assert before + 40 - kept <= len(paid) <= before + 40 - kept + 2
        assert spent(tmp_path) == Decimal("0.04") * len(paid)


def test_two_processes_ask_once_for_what_both_want(tmp_path):
    with serving(Images, slow=0.02) as (url, state):
        both = [client(url, tmp_path, 20) for _ in range(2)]
        for one in both:
            out, err = one.communicate(timeout=30)
            assert out.strip() == b"20", err
        assert len(state.posts) == 20


def test_two_processes_spend_no_more_than_the_limit_together(tmp_path):
    with serving(Images, slow=0.01) as (url, state):
        both = [client(url, tmp_path, n, "&parallel=4&price=0.1&budget=1.55") for n in (30, 40)]
        for one in both:
            _, err = one.communicate(timeout=30)
            assert b"spending limit: 1.5 of budget 1.55" in err
        assert len(state.posts) == 15
        assert spent(tmp_path) == Decimal("1.5")


def test_an_interrupt_keeps_what_is_under_way_and_sends_nothing_more(tmp_path):
    with serving(Images, slow=0.2) as (url, state):
        stopped = client(url, tmp_path, 40, "&parallel=2")
        wait_for(state, 4)
        stopped.send_signal(signal.SIGINT)
        _, err = stopped.communicate(timeout=10)
        assert b"KeyboardInterrupt" in err
        time.sleep(0.1)
        assert len(state.posts) <= 6
        assert len(list((tmp_path / "answers").rglob("*.png"))) == len(state.posts)


def test_no_connection_is_left_open(server, tmp_path):
    url, _ = server
    model = opened(url, tmp_path)
    model.generate(asking(3))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for seed in range(3, 30):
        model.generate([Request("a red hat", seed)])
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 8 if before else fresh(State())
