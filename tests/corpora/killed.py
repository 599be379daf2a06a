"""Runs commands in processes that end themselves by SIGKILL just before they change a folder for the n-th time.

Reads a line of JSON for each command, {"moment": n, "folder": ..., "words": [...]}, and answers with one,
{"code": ..., "changes": ..., "said": ...}; without a kill where n is -1. A change is a file opened to be written,
renamed or removed, or a folder made or removed. Everything is imported once, and each command is a process by itself.
"""

import json
import os
import signal
import sys
import tempfile

from byrote.cli import main as run

COUNTED = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}


def changes(event, args, folder):
    """Say whether an audit event is one that changes the folder."""
    if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
        return False
    if event != "open" and event not in COUNTED:
        return False
    if not isinstance(args[0], str | bytes | os.PathLike):
        return False
    name = os.fsdecode(args[0])
    if event in ("os.remove", "os.rmdir") and args[1] >= 0:  # a name in a folder that is open, as rmtree goes about it
        name = os.path.join(os.readlink(f"/proc/self/fd/{args[1]}"), name)
    return os.path.abspath(name).startswith(folder)


def obey(asked):
    """Run a command, count, and end the process where that is wanted."""
    done = 0

    def watch(event, args):
        nonlocal done
        if changes(event, args, asked["folder"]):
            if done == asked["moment"]:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1

    sys.addaudithook(watch)
    code = run(asked["words"])
    print(f"\n{done}", flush=True)
    return code


def answer(asked):
    """Run a command in a process of its own, and say how it ended."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            os._exit(obey(asked))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        told = said.read().decode()
    last = told.strip().rpartition("\n")[2]
    return {"code": code, "changes": int(last) if last.isdigit() else None, "said": told}


def main():
    import byrote.corpora.merge
    import byrote.corpora.remove
    import byrote.stages.dedupe  # noqa: F401 - what every command would import for itself

    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
