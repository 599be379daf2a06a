"""The server behind the page: who gets in, what is refused, and that every answer holds."""

import asyncio
import json
import re
import socket
import sqlite3
import stat

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byrote import images
from byrote.demo.portraits import draw as portrait
from byrote.demo.portraits import meet
from byrote.errors import ByroteError, StoreError
from byrote.kernels import align
from byrote.kernels.align import Alignment
from byrote.review import VERDICTS, verdicts
from byrote.review.app import application
from byrote.review.desk import Conflict, Desk
from byrote.review.guard import BODY, BURST, STRANGERS, Allowance
from byrote.review.looks import Looks, nearest
from byrote.review.pairs import Shown, dealt
from byrote.review.serve import hosts, listening, origin_of
from byrote.review.tokens import FILE, tokens, whose

from .served import HOSTILE, SECRET, SIDE, Server, pairs, pixels
from .served import given as set_up

HOST = "127.0.0.1:1"
NAMES = ["ann", "bob"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("served"), 40).start()
    yield server
    log = server.kill()
    assert server.tokens["ann"] not in log


class Door:
    """The pages in this process, asked without a network."""

    def __init__(self, folder, public="", **options):
        self.about = set_up(folder, 20, NAMES, **options)
        self.tokens = {"ann": "a" * 32, "bob": "b" * 32, "": "c" * 32}
        self.app = application(self.about, dict(self.tokens), hosts("127.0.0.1", 1), public)

    def ask(self, path, method="GET", body=b"", name="ann", headers=(), host=HOST):
        path, _, query = f"/{self.tokens[name]}/{path}".partition("?")
        sent, answer = [{"type": "http.request", "body": body, "more_body": False}], []
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": []}
        scope |= {"query_string": query.encode(), "headers": [(b"host", host.encode()), *headers]}

        async def receive():
            return sent.pop()

        async def send(message):
            answer.append(message)

        asyncio.run(self.app(scope, receive, send))
        told = answer[1]["body"]
        return answer[0]["status"], json.loads(told) if told[:1] in (b"{", b"[") else told

    def judge(self, **told):
        return self.ask("api/verdicts", "POST", json.dumps(told).encode())


@pytest.fixture
def door(tmp_path):
    return Door(tmp_path)


def good(pair="p0001", verdict="copy", note="", key="k1", **more):
    return {"id": pair, "verdict": verdict, "note": note, "key": key} | more


def test_without_a_token_every_address_is_answered_alike(server):
    token = server.tokens["ann"]
    answers = set()
    for path in (
        "/",
        "/page.html",
        f"/{token[:-1]}/",
        f"/{token[:-1]}x/",
        f"/{token}",
        "/api/session",
        "/" + "%00" * 9,
    ):
        status, headers, body = server.ask(path)
        answers.add((status, body, headers["content-type"]))
    assert answers == {(404, b'{"error":"not found"}', "application/json")}
    assert server.ask(f"/{token}/")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["../verdicts.sqlite", "..%2f..%2fetc/passwd", "%2e%2e/tokens.json", "images/p0001/../../tokens.json",
     "//etc/passwd", "images/..%2f..%2ftokens.json/sample", "images/p0001/sample%00", "page.js/../tokens.json",
     "static/page.js"],
)  # fmt: skip
def test_no_path_leads_to_a_file(server, path):
    status, _, body = server.ask(f"/{server.tokens['ann']}/{path}")
    assert (status, body) == (404, b'{"error":"not found"}')


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1:{port}.a"]
)
def test_a_foreign_host_is_refused(server, host):
    status, _, body = server.ask(f"/{server.tokens['ann']}/", Host=host.format(port=server.port))
    assert (status, body) == (421, b'{"error":"not this host"}')
    assert server.ask(f"/{server.tokens['ann']}/", Host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
     {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}],
)  # fmt: skip
def test_what_another_site_sends_is_refused_and_not_stored(server, headers):
    body = json.dumps(good("p0009")).encode()
    path = f"/{server.tokens['ann']}/api/verdicts"
    assert server.ask(path, "POST", body, **headers)[0] == 403
    assert ("ann", "picture 9", "sample 9") not in verdicts.latest(server.folder / verdicts.FILE)


def test_a_body_that_is_too_large_is_refused_in_words_and_not_by_a_reset(server):
    path = f"/{server.tokens['ann']}/api/verdicts"
    for size in (BODY + 1, 4 * 2**20):
        status, _, body = server.ask(path, "POST", b" " * size)
        assert (status, body) == (413, b'{"error":"too large"}')


def test_every_answer_forbids_scripts_of_others_frames_and_caches(server):
    for path in (f"/{server.tokens['ann']}/", f"/{server.tokens['ann']}/images/p0001/sample", "/nobody/"):
        _, headers, _ = server.ask(path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def test_two_servers_at_one_address_are_told_in_one_line(server):
    with pytest.raises(ByroteError, match=r"--port N takes another"):
        listening("127.0.0.1", server.port)
    for wild in ("0.0.0.0", "::", ""):
        with pytest.raises(ByroteError, match="name one address"):
            listening(wild, 0)


def test_the_socket_is_on_this_machine_alone(server):
    listens = listening("127.0.0.1", 0)
    assert listens.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", server.port), timeout=2)
    listens.close()


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_head():
    """By Nagle's algorithm each waited for 40 ms: asyncio turns it off for sockets that name TCP, and only then."""

    async def nodelay():
        found = asyncio.get_running_loop().create_future()

        async def greet(_, writer):
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listens = listening("127.0.0.1", 0)
        async with await asyncio.start_server(greet, sock=listens):
            _, writer = await asyncio.open_connection(*listens.getsockname())
            told = await asyncio.wait_for(found, 20)
            writer.close()
        return told

    assert asyncio.run(nodelay()) == 1


def test_too_many_requests_are_answered_shortly_and_strangers_fill_no_log(door, capsys):
    door.app._allowed["ann"] = Allowance(5, 0.01)
    assert [door.ask("api/session")[0] for _ in range(7)] == [200] * 5 + [429] * 2
    door.tokens["ann"] = "x" * 32
    for _ in range(3 * STRANGERS):
        door.ask("api/session")
    assert capsys.readouterr().err.count("refused (404)") <= STRANGERS + 5


def test_an_allowance_grows_again():
    allowance = Allowance(2, 1000.0)
    assert [allowance.takes(), allowance.takes()] == [True, True]
    asyncio.run(asyncio.sleep(0.01))
    assert allowance.takes()
    assert not Allowance(0, 0.0).takes()


def test_the_blind_mode_tells_nothing_of_what_a_pair_is(door):
    """No side, no kind, no distance, no digest: a planted copy, a control and a candidate look alike."""
    _, told = door.ask("api/turns?from=0&count=20")
    keys = {"ordinal", "id", "verdict", "note", "level", "moved", "told", "facts"}
    assert [set(turn) for turn in told["turns"]] == [keys] * 20
    assert all(turn["facts"] == {} for turn in told["turns"])
    assert all(turn["moved"] == "" for turn in told["turns"])
    assert not re.search("picture|sample|planted|control|0123", json.dumps(told))
    assert door.ask("api/pairs/p0001/more")[0] == 404
    assert door.ask("api/find?after=0&text=planted")[1] == {"turns": []}
    sizes = set()
    for pair in ("p0000", "p0001"):
        for which in ("sample", "picture", "aligned"):
            status, data = door.ask(f"images/{pair}/{which}")
            sizes.add((status, data[:2], images.decode(data).shape))
    assert sizes == {(200, b"\xff\xd8", (SIDE, SIDE, 3))}


def test_images_are_cut_and_scaled_to_the_samples_and_a_pair_that_lost_one_is_gone():
    wide = np.arange(40 * 80 * 3, dtype=np.uint8).reshape(40, 80, 3)
    looks = Looks(lambda digest: wide if digest == "wide" else pixels(digest), pixels, (20, 30))
    for pair in (Shown("a", "wide", "sample 1"), Shown("b", "wide", "")):
        assert [images.decode(data).shape for data in looks.both(pair)] == [(20, 30, 3)] * 3
    assert looks.both(Shown("c", "gone", "sample 1")) is looks.both(Shown("d", "wide", "gone")) is None
    large = Looks(lambda _: wide, lambda _: wide, (3000, 1500))
    assert images.decode(large.both(Shown("e", "wide", "x"))[0]).shape == (768, 384, 3)


def test_the_picture_is_moved_onto_the_sample_for_what_lays_them_over_each_other():
    square = np.zeros((32, 32, 3), np.uint8)
    square[:, :16] = 250
    looks = Looks(lambda _: square, lambda _: square, (32, 32))
    sample, picture, aligned = looks.both(Shown("a", "x", "y", move=Alignment(True, 1.0, 0, 0)))
    assert sample == picture
    assert images.decode(aligned)[:, 18:].min() > 200
    assert images.decode(aligned)[:, :14].max() < 50
    plain = looks.both(Shown("b", "x", "y"))
    assert plain[1] == plain[2]


@pytest.mark.parametrize("side", [64, 128])
def test_without_a_move_of_its_own_a_picture_is_moved_as_brings_it_nearest_planted_or_not(side):
    picture = portrait(meet("looks", 1))
    picture = images.resize(picture, side, side)
    shifted = align.move(picture, Alignment(True, 1.0, 2 * side // 64, 0))
    looks = Looks(lambda _: picture, lambda _: shifted, (side, side))
    sample, still, aligned = (images.decode(data).astype(int) for data in looks.both(Shown("a", "x", "y", move=None)))
    assert 4 * np.abs(sample - aligned).mean() < np.abs(sample - still).mean()
    planted = looks.both(Shown("b", "x", "", move=None))
    assert planted[1] == planted[2]


def test_a_nearest_move_of_a_picture_that_is_not_square_is_in_its_own_pixels():
    picture = images.fit(portrait(meet("looks", 2)), 128, 64)
    assert nearest(align.move(picture, Alignment(False, 1.0, 2, 1)), picture) == Alignment(False, 1.0, 2, 1)


def test_pairs_are_found_by_what_one_said_of_them(door):
    assert door.ask("api/find?after=-1&verdict=open")[1]["turns"][0]["id"] == "p0000"
    door.judge(**good())
    assert door.ask("api/find?after=-1&verdict=copy")[1]["turns"][0]["id"] == "p0001"
    assert door.ask("api/find?after=0&verdict=open")[1]["turns"][0]["id"] == "p0002"
    assert door.ask("api/find?after=-1&verdict=alike")[1] == {"turns": []}
    status, told = door.ask("api/find?after=-1&verdict=planted")
    assert (status, told["error"]) == (400, "a verdict to look for is open or one of copy, part, alike, no, unsure")


def test_a_level_is_stored_with_its_verdict_and_told_again(door):
    assert door.judge(**good(level=4))[0] == 200
    assert door.ask("api/turns?from=1&count=1")[1]["turns"][0]["level"] == 4
    assert [each.level for each in verdicts.events(door.about.desk.file)] == [4]
    assert door.judge(**good(level=2))[0] == 409, "the same key for another level"
    for wrong in (6, -1, 1.0, True, "3"):
        assert door.judge(**good(level=wrong, key="k9")) == (
            400,
            {"error": "a level is null or a whole number from 0 to 5"},
        )


def test_a_verdict_is_in_the_database_once_it_is_acknowledged_and_again_is_not_twice(door):
    assert door.judge(**good()) == (200, {"stored": True, "new": True})
    assert verdicts.latest(door.about.desk.file) == {("ann", "picture 1", "sample 1"): "copy"}
    assert door.judge(**good()) == (200, {"stored": True, "new": False})
    assert door.judge(**good(verdict="no"))[0] == 409
    assert door.judge(**good(verdict=None, key="k2")) == (200, {"stored": True, "new": True})
    assert verdicts.latest(door.about.desk.file) == {}
    assert door.judge(**good()) == (200, {"stored": True, "new": False})  # a sender that comes late undoes nothing
    assert verdicts.latest(door.about.desk.file) == {}


def judge_all(door, name, verdict="copy", but=()):
    for k in set(range(20)) - set(but):
        body = json.dumps(good(f"p{k:04d}", verdict, key=f"all {k}")).encode()
        assert door.ask("api/verdicts", "POST", body, name)[0] == 200


def test_who_has_judged_all_is_told_what_they_were_and_can_change_nothing_of_it(door):
    judge_all(door, "ann", but=[7])
    assert door.ask("api/told", "POST") == (409, {"error": "1 pairs of yours are open"})
    assert door.ask("api/find?after=-1&text=planted")[1] == {"turns": []}
    door.judge(**good("p0007", "unsure", key="last"))
    assert door.ask("api/turns?from=0&count=1")[1]["turns"][0]["facts"] == {}
    assert door.ask("api/told", "POST") == (200, {"stored": True})
    told = door.ask("api/turns?from=0&count=20")[1]["turns"]
    assert all(turn["facts"] == SECRET and turn["told"] for turn in told)
    assert door.ask("api/find?after=3&text=planted")[1]["turns"][0]["ordinal"] == 4
    before = verdicts.latest(door.about.desk.file)
    assert door.judge(**good("p0007", "copy", key="now I know"))[0] == 409
    assert door.judge(**good("p0007", "unsure", key="last")) == (200, {"stored": True, "new": False})
    table = verdicts.Said("ann", "picture 7", "sample 7", "copy", "", "by a table")
    assert verdicts.add(door.about.desk.file, [table]) == 1
    assert verdicts.latest(door.about.desk.file) == before
    assert door.ask("api/turns?from=7&count=1")[1]["turns"][0]["verdict"] == "unsure"
    assert door.ask("api/turns?from=0&count=1", name="bob")[1]["turns"][0]["facts"] == {}
    again = Desk("measure", pairs(20), NAMES, door.about.desk.file)
    assert again.turns("ann", 7, 1)[0].told
    assert again.turns("ann", 7, 1)[0].verdict == "unsure"
    assert verdicts.check(door.about.desk.file) == []


def test_a_second_opinion_that_is_asked_for_later_is_blind_and_counts(tmp_path):
    desk = Desk("measure", pairs(60), ["ann", "bob", "cas"], tmp_path / "v.sqlite", 0.0)
    hers = [turn.pair for turn in desk.turns("ann", 0, 60)]
    for k, pair in enumerate(hers):
        desk.judge("ann", pair, "no", "", f"{k}")
    desk.tell("ann")
    one = desk.turns("bob", 0, 1)[0].pair
    desk.judge("bob", one, "copy", "", "b")
    desk.judge("cas", one, "alike", "", "c")
    assert desk.disputed() == (1, 0)
    assert [turn.pair for turn in desk.open_turns("ann", -1, 9)] == [one]
    (asked,) = desk.turns("ann", len(hers), 1)
    assert not asked.told
    with pytest.raises(Conflict, match="1 pairs of yours are open"):
        desk.tell("ann")
    desk.judge("ann", one, "copy", "", "second")
    assert verdicts.latest(desk.file)["ann", one.picture, one.sample] == "copy"
    desk.tell("ann")
    assert desk.turns("ann", len(hers), 1)[0].told
    with pytest.raises(Conflict, match="its verdict stays"):
        desk.judge("ann", one, "no", "", "third")


def test_pairs_on_which_everybody_is_split_are_counted_for_whoever_conducts_the_review(door):
    desk = door.about.desk
    for name, verdict in (("ann", "copy"), ("bob", "no")):
        door.ask("api/verdicts", "POST", json.dumps(good(verdict=verdict)).encode(), name)
    assert desk.disputed() == (1, 1)
    door.ask("api/verdicts", "POST", json.dumps(good(verdict="copy", key="k2")).encode(), "bob")
    assert desk.disputed() == (0, 0)


def test_while_exploring_how_a_picture_was_moved_is_said_in_words(tmp_path):
    door = Door(tmp_path, mode="explore")
    told = door.ask("api/turns?from=0&count=4")[1]["turns"]
    assert [turn["moved"] for turn in told] == [
        "",
        "",
        "cut to 90% of its edges (top), mirrored",
        "moved 2 right and 1 up",
    ]


def test_notes_are_found_by_their_words_and_those_of_others_are_not(door):
    door.judge(**good("p0004", "no", note="the same SCARF, red"))
    assert door.ask("api/find?after=-1&text=red%20scarf")[1]["turns"][0]["id"] == "p0004"
    assert door.ask("api/find?after=-1&text=scarf&verdict=copy")[1] == {"turns": []}
    assert door.ask("api/find?after=-1&text=scarf", name="bob")[1] == {"turns": []}


def test_each_refusal_is_told_in_one_line_that_holds_no_token(door, capsys):
    token, large = door.tokens["ann"], b" " * (BODY + 1)
    door.ask("api/verdicts", "POST", large)
    door.ask("api/session", headers=[(b"origin", b"https://evil.example\x1b[2J\n")])
    door.ask("api/session", headers=[(b"host", b"evil.example")])
    door.tokens["ann"] = token[:-1]
    door.ask("../../etc/passwd\n")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(")")[0] for line in lines] == [f"refused ({status}" for status in (413, 403, 421, 404)]
    assert all(line.isprintable() and token[:-1] not in line for line in lines)


def test_behind_a_proxy_its_host_and_origin_are_as_good_as_the_own_ones_and_no_others(tmp_path):
    door, body = Door(tmp_path, public="https://pairs.example"), json.dumps(good()).encode()
    sent = [
        ("pairs.example", "https://pairs.example", 200),
        (HOST, "https://pairs.example", 200),
        (HOST, f"http://{HOST}", 200),
        ("pairs.example", "https://evil.example", 403),
        (HOST, "https://pairs.example.evil.example", 403),
        ("", "https://pairs.example", 421),
        ("pairs.example:444", "https://pairs.example", 421),
    ]
    for host, origin, status in sent:
        headers = [(b"origin", origin.encode()), (b"sec-fetch-site", b"same-origin")]
        assert door.ask("api/verdicts", "POST", body, headers=headers, host=host)[0] == status
    own = Door(tmp_path / "own").ask
    assert own("api/session", host="pairs.example")[0] == own("api/session", host="")[0] == 421
    assert own("api/session", headers=[(b"origin", b"")])[0] == 403


@pytest.mark.parametrize(
    ("url", "origin"),
    [("https://Pairs.example/", "https://pairs.example"), ("https://pairs.example:443", "https://pairs.example"),
     ("http://localhost:9000", "http://localhost:9000"), ("http://[::1]:80", "http://[::1]")],
)  # fmt: skip
def test_a_public_url_is_written_as_browsers_write_its_origin(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    ["", "pairs.example", "ftp://pairs.example", "https://", "https://a b", "https://ann@pairs.example",
     "https://pairs.example/x", "https://pairs.example?x", "https://pairs.example:99999", "https://pairs.example\n"],
)  # fmt: skip
def test_what_is_no_public_url_is_told_in_one_line(url):
    with pytest.raises(ByroteError, match="give http or https, a host") as told:
        origin_of(url)
    assert "\n" not in str(told.value)


def test_keys_of_one_reviewer_are_not_those_of_another(door):
    for name in NAMES:
        body = json.dumps(good()).encode()
        assert door.ask("api/verdicts", "POST", body, name)[1] == {"stored": True, "new": True}
    assert len(verdicts.latest(door.about.desk.file)) == 2


def test_what_others_add_to_the_database_is_seen(door):
    desk = door.about.desk
    verdicts.add(desk.file, [verdicts.Said("ann", "picture 2", "sample 2", "no", "by a table", "x")])
    assert door.ask("api/session")[1]["judged"] == 1
    assert door.ask("api/turns?from=2&count=1")[1]["turns"][0]["verdict"] == "no"
    assert [turn["id"] for turn in door.ask("api/open?after=1&count=2")[1]["turns"]] == ["p0003", "p0004"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b"\xff", 400), (b"[" * 9999, 400), (b"null", 400), (b'"x"', 400),
     (json.dumps(good() | {"more": 1}).encode(), 400), (json.dumps({"id": "p0001"}).encode(), 400),
     (json.dumps(good(verdict="yes")).encode(), 400), (json.dumps(good(verdict=["copy"])).encode(), 400),
     (json.dumps(good(note=None)).encode(), 400), (json.dumps(good(note="x" * 2001)).encode(), 400),
     (json.dumps(good(note="\ud800")).encode(), 400), (json.dumps(good(key="")).encode(), 400),
     (json.dumps(good(key="k" * 81)).encode(), 400), (json.dumps(good(pair="p9999")).encode(), 404),
     (json.dumps(good(pair={"a": 1})).encode(), 400), (json.dumps(good(pair="../x")).encode(), 404)],
)  # fmt: skip
def test_what_is_no_verdict_is_refused_in_words_of_ours(door, body, status):
    found, told = door.ask("api/verdicts", "POST", body)
    assert found == status
    assert len(told["error"]) < 100
    assert not door.about.desk.file.exists()


def test_a_database_that_refuses_is_no_acknowledgement(door, capsys):
    door.judge(**good())
    with sqlite3.connect(door.about.desk.file) as store:
        store.execute("ALTER TABLE events RENAME TO gone")
        store.execute("CREATE VIEW events AS SELECT 1")
    store.close()
    status, told = door.judge(**good("p0002", key="k2"))
    assert status == 503
    assert str(door.about.desk.file) not in told["error"]
    assert str(door.about.desk.file) in capsys.readouterr().err


NUMBERS = st.integers(-10, 50).map(str) | st.text(max_size=12).filter(str.isascii)


@given(st.sampled_from(["turns?from", "open?after", "find?text=picture&after"]), NUMBERS, NUMBERS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_number_is_answered_or_refused_in_words(door, path, start, count):
    door.app._allowed["ann"] = Allowance(BURST, 1.0)
    status, told = door.ask(f"api/{path}={start}&count={count}")
    assert (status == 200 and isinstance(told["turns"], list)) or (status == 400 and told["error"])


def test_a_long_fact_is_cut_and_found_again(tmp_path):
    door = Door(tmp_path, mode="explore", facts=HOSTILE)
    _, told = door.ask("api/turns?from=0&count=1")
    assert len(told["turns"][0]["facts"]["file"]) < 4100
    assert door.ask("api/find?after=3&text=ONERROR%20script")[1]["turns"][0]["ordinal"] == 4
    assert door.ask("api/find?after=3&text=nowhere")[1] == {"turns": []}
    _, told = door.ask("api/pairs/p0001/more")
    assert told["groups"][0] == {"title": "Others", "items": [{"src": "around/p0001/0/0", "words": "one"}]}
    assert door.ask("around/p0001/0/0")[0] == 200
    for none in ("around/p0001/0/1", "around/p0001/3/0", "around/p0001/0/-1", "around/p9999/0/0"):
        assert door.ask(none)[0] == 404
    for wrong in ("around/p0001/0/x", "around/p0001/²/0", f"around/p0001/0/{'9' * 5000}"):
        assert door.ask(wrong)[0] == 400


@given(st.integers(0, 60), st.sets(st.sampled_from("abcde"), min_size=1), st.sampled_from([0.0, 0.3, 1.0]))
def test_every_pair_goes_to_two_or_to_one_and_the_order_stays(count, names, overlap):
    queues = dealt(pairs(count), sorted(names), overlap)
    assert queues == dealt(pairs(count), sorted(names, reverse=True), overlap)
    times = [sum(place in queue for queue in queues.values()) for place in range(count)]
    two = min(2, len(names))
    assert set(times) <= ({1, two} if 0 < overlap < 1 else {two if overlap else 1})
    assert all(queue == sorted(queue) for queue in queues.values())


def test_in_explore_everybody_gets_every_pair():
    assert dealt(pairs(9), ["a", "b", "c"], 0.0, "explore") == {name: [*range(9)] for name in "abc"}


def test_a_share_of_pairs_goes_to_two_and_all_get_about_as_many():
    queues = dealt(pairs(4000), ["a", "b", "c"], 0.25)
    times = [sum(place in queue for queue in map(set, queues.values())) for place in range(4000)]
    assert 0.2 < times.count(2) / 4000 < 0.3
    assert max(map(len, queues.values())) - min(map(len, queues.values())) < 250


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_a_newcomer_takes_over_a_share_and_nothing_else_moves(overlap):
    before, after = (dealt(pairs(2000), list(names), overlap) for names in ("abc", "abcd"))
    taken = [set(before[name]) - set(after[name]) for name in "abc"]
    assert all(set(after[name]) <= set(before[name]) for name in "abc")
    assert sum(map(len, taken)) == len(after["d"])
    assert 0.2 < len(after["d"]) / sum(map(len, before.values())) < 0.3


def test_what_somebody_judged_stays_theirs_when_a_newcomer_is_dealt_it(tmp_path):
    desk = Desk("measure", pairs(30), ["ann", "bob"], tmp_path / "v.sqlite", 0.0)
    for turn in desk.turns("ann", 0, 30):
        desk.judge("ann", turn.pair, "no", "", turn.pair.id)
    count, judged = desk.counts("ann")
    assert count == judged > 5
    assert Desk("measure", pairs(30), ["ann", "bob", "cas"], desk.file, 0.0).counts("ann") == (count, judged)


def test_where_two_of_three_disagree_the_third_is_asked_though_all_pairs_are_shared(tmp_path):
    desk = Desk("measure", pairs(60), ["ann", "bob", "cas"], tmp_path / "v.sqlite")
    pair = next(t.pair for t in desk.turns("ann", 0, 60) if t.pair in [u.pair for u in desk.turns("bob", 0, 60)])
    before = desk.counts("cas")[0]
    desk.judge("ann", pair, "copy", "", "1")
    desk.judge("bob", pair, "no", "", "2")
    assert desk.turns("cas", before, 1)[0].pair == pair
    assert desk.disputed() == (1, 0)


def test_a_pair_that_lost_an_image_is_asked_of_nobody_once_that_was_found(tmp_path):
    door = Door(tmp_path, gone=("picture 7",))
    judge_all(door, "ann", but=[7])
    assert door.ask("api/told", "POST")[0] == 409
    assert door.ask("images/p0007/sample")[0] == 410
    told = door.ask("api/open?after=-1&count=9")[1]
    assert told == {"turns": [], "count": 19, "judged": 19, "length": 20}
    assert door.ask("api/told", "POST")[0] == 200


@pytest.mark.parametrize("path", ["*", "", "x", "http:"])
def test_a_path_without_a_token_is_a_strangers_whatever_its_shape(door, path, capsys):
    answer = []

    async def send(message):
        answer.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "OPTIONS", "path": path, "headers": [(b"host", HOST.encode())]}
    door.app._strangers = Allowance(1, 0.001)
    for status in (404, 429):
        answer.clear()
        asyncio.run(door.app(scope, receive, send))
        assert answer[0]["status"] == status
    assert "refused (404): 'OPTIONS'" in capsys.readouterr().err


def test_a_second_opinion_is_asked_for_where_two_disagree_and_only_there(tmp_path):
    names = ["ann", "bob", "cas"]
    desk = Desk("measure", pairs(60), names, tmp_path / "v.sqlite", 0.0)
    place = next(k for k in range(60) if desk.turns("ann", 0, 60)[0].pair.id == f"p{k:04d}")
    before = {name: desk.counts(name)[0] for name in names}
    one = desk.by_id[f"p{place:04d}"]
    desk.judge("ann", one, "copy", "", "1")
    assert {name: desk.counts(name)[0] for name in names} == before
    verdicts.add(desk.file, [verdicts.Said("bob", one.picture, one.sample, "alike", "", "2")])
    desk.refresh()
    assert desk.counts("cas")[0] == before["cas"] + 1
    assert desk.turns("cas", before["cas"], 1)[0].pair == one
    again = Desk("measure", pairs(60), names, tmp_path / "v.sqlite", 0.0)
    assert again.turns("cas", before["cas"], 1)[0].pair == one
    with pytest.raises(Conflict):
        desk.judge("ann", one, "no", "", "1")


def test_tokens_are_kept_for_their_owner_alone_and_a_broken_file_is_told(tmp_path):
    first = tokens(tmp_path / "review", ["ann", "bob"])
    path = tmp_path / "review" / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert tokens(tmp_path / "review", ["bob", "cas"])["bob"] == first["bob"]
    assert tokens(tmp_path / "review", ["ann"]) == {"ann": first["ann"]}
    assert len({*first.values()}) == 2
    assert whose(first["ann"], first) == "ann"
    assert whose(first["ann"][:-1], first) is whose("", first) is whose("\udc80", first) is None
    for broken in ("{", "[]", '{"ann": "short"}', '{"ann": 3}'):
        path.write_text(broken)
        with pytest.raises(StoreError, match="delete it"):
            tokens(tmp_path / "review", ["ann"])


VERDICT = {
    "type": "object",
    "required": ["id", "verdict", "note", "key"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string"},
        "verdict": {"enum": [*VERDICTS, None]},
        "note": {"type": "string", "maxLength": verdicts.LONGEST_NOTE},
        "key": {"type": "string", "minLength": 1, "maxLength": 80},
        "level": {"enum": [None, *verdicts.LEVELS]},
    },
}
TURNS = {"type": "object", "required": ["turns"], "properties": {"turns": {"type": "array", "maxItems": 100}}}
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def answers(ok, *refusals):
    told = {"200": ok} | dict.fromkeys(map(str, refusals), ERROR)
    return {code: {"description": "-", "content": {"application/json": {"schema": of}}} for code, of in told.items()}


def number(name):
    schema = {"type": "integer", "minimum": -99999999, "maximum": 999999999}
    return {"name": name, "in": "query", "required": True, "schema": schema}


STORED = {"type": "object", "required": ["stored", "new"], "properties": {"stored": {"const": True}}}
BODY_OF = {"required": True, "content": {"application/json": {"schema": VERDICT}}}
API = {
    "openapi": "3.1.0",
    "info": {"title": "review", "version": "1"},
    "paths": {
        "/api/session": {"get": {"responses": answers({"type": "object", "required": ["name", "mode", "count"]})}},
        "/api/turns": {"get": {"parameters": [number("from"), number("count")], "responses": answers(TURNS, 400)}},
        "/api/open": {"get": {"parameters": [number("after"), number("count")], "responses": answers(TURNS, 400)}},
        "/api/find": {
            "get": {
                "parameters": [
                    number("after"),
                    {"name": "text", "in": "query", "schema": {"type": "string"}},
                    {"name": "verdict", "in": "query", "schema": {"enum": ["open", *VERDICTS]}},
                ],
                "responses": answers(TURNS, 400),
            }
        },
        "/api/told": {"post": {"responses": answers({"type": "object", "required": ["stored"]}, 409)}},
        "/api/verdicts": {"post": {"requestBody": BODY_OF, "responses": answers(STORED, 400, 404, 409)}},
    },
}
schema = schemathesis.openapi.from_dict(API)


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_schemathesis_finds_no_answer_that_the_api_does_not_promise(server, case):
    case.call_and_validate(base_url=server.page("ann"))
