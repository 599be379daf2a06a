"""An object store on this machine: moto's server in a process of its own, which speaks S3."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

BUCKET = "pictures"


@contextmanager
def served():
    """Run the server; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(address)
        yield address
    finally:
        server.terminate()
        server.wait()


def _wait(address):
    for _ in range(300):
        try:
            with urlopen(f"{address}/moto-api/", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError("the server does not answer")


def upload(client, root: Path, prefix: str):
    """Put all files below a folder into the bucket."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(root).as_posix()}")
