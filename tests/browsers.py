"""Chromium for tests of pages: Debian's, installed where it is missing and that is allowed."""

import os
import shutil
import subprocess

import pytest


def chromium() -> str:
    """Return where Chromium is. Without it a test is skipped with a reason, but under CI=true it fails."""
    found = shutil.which("chromium") or (_installed() if os.geteuid() == 0 and shutil.which("apt-get") else None)
    if found:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("no Chromium on this machine, and it could not be installed")
    pytest.skip("no Chromium on this machine: apt-get install chromium")


def _installed() -> str | None:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    install = ["apt-get", "install", "-y", "-qq", "chromium"]
    if subprocess.run(install, check=False, **quiet).returncode:
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        subprocess.run(install, check=False, **quiet)
    return shutil.which("chromium")
