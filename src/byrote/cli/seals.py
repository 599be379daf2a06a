"""The commands attest, verify and export."""

import argparse
from dataclasses import asdict
from pathlib import Path

from byrote.cli.options import Add, json_option, tell
from byrote.errors import ByroteError


def add(command: Add) -> None:
    """Add them."""
    attest = command("attest", _attest, "Sign an audit: an in-toto statement of its files in a DSSE envelope.")
    attest.add_argument("dir", type=Path, metavar="DIR")
    attest.add_argument("--key", type=Path, required=True, metavar="FILE", help="an ed25519 private key (PEM)")
    attest.add_argument("--new-key", action="store_true", help="make that key, and FILE.pub for those who verify")

    verify = command("verify", _verify, "Check every digest of an audit and make some samples again.")
    verify.add_argument("dir", type=Path, metavar="DIR")
    verify.add_argument("--key", type=Path, metavar="FILE", help="the public key of whoever signed")
    verify.add_argument(
        "--samples", type=none_or_more, default=4, metavar="N", help="samples to make again (default: 4)"
    )
    verify.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice of samples (default: 0)")
    json_option(verify)

    export = command("export", _export, "Write an audit for other tools, without anything private.")
    export.add_argument("dir", type=Path, metavar="DIR")
    export.add_argument(
        "--format",
        choices=("bom", "card", "junit"),
        required=True,
        help="bom: CycloneDX 1.6 ML-BOM; card: a snippet for a model card; junit: for continuous integration",
    )
    export.add_argument("--out", type=Path, metavar="FILE", help="a file (default: standard output)")


def none_or_more(text: str) -> int:
    """Read a whole number of 0 or more."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return int(text)


def _attest(options: argparse.Namespace) -> int:
    from byrote.seals.envelope import keyid, new_key, read_key
    from byrote.seals.statement import attest

    key = new_key(options.key) if options.new_key else read_key(options.key)
    print(f"{attest(options.dir, key)}: signed with {keyid(key.public_key())}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from byrote.seals.envelope import read_public
    from byrote.seals.verify import verify

    key = read_public(options.key) if options.key else None
    told = verify(options.dir, key=key, samples=options.samples, seed=options.seed)
    lines = [*(f"WRONG {problem}" for problem in told.problems), *(f"not checked: {each}" for each in told.unchecked)]
    verdict = f"{len(told.problems)} problems" if told.problems else "nothing wrong"
    tell(options.json, asdict(told), "\n".join([*lines, f"{options.dir}: {verdict}, {told.checked:,} checks"]))
    return 1 if told.problems else 0


def _export(options: argparse.Namespace) -> int:
    from byrote.seals.exports import write

    text = write(options.dir, options.format)
    if options.out is None:
        print(text, end="")
        return 0
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ByroteError(f"{options.out}: cannot be written: {error.strerror or error}") from error
    return 0
