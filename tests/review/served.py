"""Sets up a page of made-up pairs, in a process of its own so that it can be killed."""

import http.client
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from byrote.kernels.align import IDENTITY, Alignment
from byrote.review.app import Given, application
from byrote.review.desk import Desk
from byrote.review.looks import Looks
from byrote.review.pairs import Shown
from byrote.review.serve import hosts, listening, serve
from byrote.review.tokens import PROGRESS, tokens

SIDE = 24
HOSTILE = {
    "caption": "<img src=x onerror='document.title=1'><script>document.title='gone'</script></dd></dl>&lt;b&gt;",
    "prompt": "\u202egnp.elif\u202c \u2066left\u2069 \x00\x07\x1b[2J \ufeff\u200f",
    "file": "x" * 100_000,
    "__proto__": "a name like any other",
}
SECRET = {"picture": "planted: the picture itself", "T": "0.0123"}
"""What a blind reviewer must not be told."""
MOVES = [IDENTITY, IDENTITY, Alignment(True, 0.9, 0, -1), Alignment(False, 1.0, 2, -1)]


def pixels(digest):
    """Return an image that follows from its name; None for those that are gone."""
    if digest.startswith("gone"):
        return None
    rng = np.random.default_rng(list(digest.encode()))
    return rng.integers(0, 256, (6, 6, 3), np.uint8).repeat(SIDE // 6, 0).repeat(SIDE // 6, 1)


def pairs(count, facts=None, mode="measure"):
    """Return so many pairs: every eighth a planted copy, half of them moved, which the mode "explore" tells."""
    moves = MOVES if mode == "explore" else [None]
    return [
        Shown(f"p{k:04d}", f"picture {k}", f"sample {k}" if k % 8 else "", facts or SECRET, moves[k % len(moves)])
        for k in range(count)
    ]


def given(folder, count, names, *, mode="measure", overlap=1.0, facts=None, gone=()):
    """Return what a page is about: `count` pairs, every eighth a planted copy; the pictures `gone` are not there."""
    desk = Desk(mode, pairs(count, facts, mode), names, folder / "verdicts.sqlite", overlap)
    told = {"words": ["no verdicts yet"], "outlook": ["nothing"], "reviewers": [[name, "1", "0"] for name in names]}
    lists = [
        ("Others", [("sample", "sample 1", "one")]),
        ("None", []),
        ("Controls", [("picture", "picture 9", "nine")]),
    ]
    around = {"measure": None, "explore": lambda id: lists}[mode]
    band = [[0.01, 1.0, 0.1, 1.0], [0.02, 0.5, 0.1, 0.9]]
    looks = Looks(lambda digest: None if digest in gone else pixels(digest), pixels, (SIDE, SIDE))
    return Given(desk, looks, lambda: told | {"band": band}, around=around)


@dataclass
class Server:
    """A server that can be killed and started again at the same address."""

    folder: Path
    count: int
    names: tuple[str, ...] = ("ann", "bob")
    mode: str = "measure"
    gone: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen | None = None
    tokens: dict = field(default_factory=dict)

    def start(self):
        told = json.dumps([str(self.folder), self.count, self.names, self.mode, self.gone, self.port])
        command = [sys.executable, "-m", "review.served", told]
        env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        told = json.loads(self.process.stdout.readline())
        self.port, self.tokens = told["port"], told["tokens"]
        return self

    def kill(self):
        """End it as a crash does; return what it logged."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        _, log = self.process.communicate()
        return log

    def page(self, name):
        return f"http://127.0.0.1:{self.port}/{self.tokens[name]}/"

    def ask(self, path, method="GET", body=None, **headers):
        """Send one request as it stands, and return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if body is not None:
            connection.send(body)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found


def main(told):
    folder, count, names, mode, gone, port = json.loads(told)
    facts = HOSTILE if mode == "explore" else None
    about = given(Path(folder), count, names, mode=mode, facts=facts, gone=gone)
    known = tokens(Path(folder), [*names, PROGRESS])
    listens = listening("127.0.0.1", port)
    bound = listens.getsockname()[1]
    print(json.dumps({"port": bound, "tokens": known}), flush=True)
    serve(application(about, known, hosts("127.0.0.1", bound)), listens)


if __name__ == "__main__":
    main(sys.argv[1])
