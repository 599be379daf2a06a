"""Print a page of the report as PDF, through a Chromium of this machine."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from byrote.errors import ByroteError, StoreError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
VARIABLE = "BYROTE_CHROMIUM"
PATIENCE = 180.0
"""Seconds for a page; one of 200 pairs takes a few."""
OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the page asks for nothing; this makes sure
    "--no-first-run",
    "--no-pdf-header-footer",
)


def printed(page: Path) -> Path:
    """Print a page that needs no other file, whole or not at all, and return the PDF beside it.

    Raises ByroteError where there is no Chromium or it fails, StoreError where the folder refuses.
    """
    out = page.with_suffix(".pdf")
    if not page.is_file():  # Chromium would print that it is not there
        raise StoreError(f"{page}: is not there to be printed; `byrote report` writes it")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / out.name
            _run(_chromium(), page, made, Path(scratch) / "profile")
            beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
            shutil.copyfile(made, beside)
            beside.replace(out)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error.strerror or error}") from error
    return out


def _run(chromium: str, page: Path, made: Path, profile: Path) -> None:
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to start otherwise
    command = [
        chromium,
        *OPTIONS,
        *root,
        f"--user-data-dir={profile}",
        f"--print-to-pdf={made}",
        page.resolve().as_uri(),
    ]
    try:
        told = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise ByroteError(f"{page}: {chromium} did not print it within {PATIENCE:.0f} s; print it by hand") from error
    if not made.exists() or not made.read_bytes().startswith(b"%PDF-"):
        last = " ".join((told.stderr.strip().splitlines() or ["it said nothing"])[-1].split())[:200]
        raise ByroteError(f"{page}: {chromium} printed no PDF (exit {told.returncode}): {last}")


def _chromium() -> str:
    """Return which Chromium to run: the one that the environment names, else one on the path."""
    wanted = os.environ.get(VARIABLE)
    found = next(filter(None, map(shutil.which, [wanted] if wanted else NAMES)), None)
    if found is None:
        named = f"{VARIABLE}={wanted} is no program" if wanted else f"none of {', '.join(NAMES)} is on the path"
        raise ByroteError(f"--pdf needs Chromium: {named}; install one, or name it in {VARIABLE}")
    return found
