"""Real HTTP servers on this machine that speak the protocols of image services, and break them where they are told.

A test starts one in a thread of its own process.
"""

import json
import socket
import struct
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext, SSLError
from urllib.parse import parse_qs, urlsplit

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from byrote import images

SIDE = 16
Fault = Callable[["Handler"], bool]  # True where the ordinary answer shall follow


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    body: dict
    headers: dict
    at: float


@dataclass
class State:
    """What a server has been asked, and what it does to its next POSTs instead of answering."""

    asked: list[Asked] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    slow: float = 0.0
    busy: int = 0
    busiest: int = 0
    refuses: tuple[str, ...] = ()
    by_url: str = ""
    shows: dict[str, bytes] = field(default_factory=dict)
    side: int = SIDE
    checkpoint: tuple[str, str] = (
        "sd15.safetensors [6ce0161689]",
        "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
    )
    done: dict = field(default_factory=dict)
    drawn: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def posts(self) -> list[Asked]:
        return [one for one in self.asked if one.method == "POST"]


class Handler(BaseHTTPRequestHandler):
    """Notes a request, breaks it if that is due, else hands it to the protocol."""

    protocol_version = "HTTP/1.1"
    state: State
    url: str

    def do_GET(self) -> None:
        self.take("GET", {})

    def do_POST(self) -> None:
        self.take("POST", json.loads(self.rfile.read(int(self.headers.get("content-length", 0)))))

    def take(self, method: str, body: dict) -> None:
        with self.state.lock:
            self.state.asked.append(Asked(method, self.path, body, dict(self.headers), time.monotonic()))
            self.state.busy += 1
            self.state.busiest = max(self.state.busiest, self.state.busy)
            fault = self.state.faults.popleft() if method == "POST" and self.state.faults else None
        try:
            if fault is None or fault(self):
                time.sleep(self.state.slow if method == "POST" else 0)
                self.answer(method, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.state.lock:
                self.state.busy -= 1

    def answer(self, method: str, body: dict) -> None:
        raise NotImplementedError

    def send(self, status: int, data: object, **headers: str) -> None:
        payload = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"content-length": str(len(payload))} | told).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def handle(self) -> None:
        try:
            super().handle()
        except (SSLError, ConnectionResetError):  # the client hung up, as it should
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Images(Handler):
    """OpenAI's images API; every image is drawn anew, whatever was asked."""

    def answer(self, method: str, body: dict) -> None:
        if method == "GET":
            self.send(200, fresh(self.state))
        elif body["prompt"] in self.state.refuses:
            self.send(400, {"error": {"code": "moderation_blocked", "message": "Your request was rejected.\n(safety)"}})
        else:
            self.send(200, {"created": 1, "data": [self.item(body["prompt"]) for _ in range(body["n"])]})

    def item(self, prompt: str) -> dict:
        if self.state.by_url:
            return {"url": self.state.by_url.replace("HERE", self.url)}
        return {"b64_json": b64encode(self.state.shows.get(prompt) or fresh(self.state)).decode()}


class WebUi(Handler):
    """The AUTOMATIC1111 web UI; an image depends on prompt, seed, checkpoint and steps."""

    def answer(self, method: str, body: dict) -> None:
        title, known = self.state.checkpoint
        if self.path == "/sdapi/v1/options":
            self.send(200, {"sd_model_checkpoint": title, "sd_checkpoint_hash": known, "CLIP_stop_at_last_layers": 1})
        elif self.path == "/sdapi/v1/sd-models":
            rows = [{"title": title, "model_name": "sd15", "sha256": known, "hash": known[:10]}]
            self.send(200, [*rows, {"title": "new.safetensors", "model_name": "new", "sha256": None, "hash": None}])
        elif self.path == "/sdapi/v1/txt2img":
            image = drawn(body["prompt"], body["seed"], body.get("steps"), known, side=self.state.side)
            info = {"seed": body["seed"], "sd_model_hash": known[:10]}
            self.send(200, {"images": [b64encode(image).decode()], "parameters": {}, "info": json.dumps(info)})
        else:
            self.send(404, {"detail": "Not Found"})


class Comfy(Handler):
    """ComfyUI; a prompt is done a little after it was queued, and what did not change is not done again."""

    def answer(self, method: str, body: dict) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/system_stats":
            self.send(200, {"system": {"comfyui_version": "0.3.40"}, "devices": []})
        elif parts.path == "/prompt":
            self.queue(body["prompt"])
        elif parts.path.startswith("/history/"):
            self.history(parts.path.rpartition("/")[2])
        elif parts.path == "/view":
            (name,) = parse_qs(parts.query)["filename"]
            self.send(200, self.state.done[name])

    def queue(self, nodes: dict) -> None:
        if any(node["class_type"] == "Unknown" for node in nodes.values()):
            self.send(400, {"error": {"type": "invalid_prompt", "message": "node type Unknown"}, "node_errors": {}})
            return
        number = f"id-{len(self.state.posts)}"
        self.state.done[number] = (time.monotonic() + 0.02, nodes)
        self.send(200, {"prompt_id": number, "number": 1, "node_errors": {}})

    def history(self, number: str) -> None:
        ready, nodes = self.state.done[number]
        if time.monotonic() < ready:
            self.send(200, {})
            return
        text = next(node["inputs"]["text"] for node in nodes.values() if node["class_type"] == "CLIPTextEncode")
        if text == "too much":
            about = {"exception_message": "CUDA out of memory.\n", "node_type": "KSampler"}
            status = {"status_str": "error", "completed": False, "messages": [["execution_error", about]]}
            self.send(200, {number: {"outputs": {}, "status": status}})
            return
        outputs = {}
        for key, node in nodes.items():
            if node["class_type"] in ("SaveImage", "PreviewImage"):
                outputs[key] = {"images": [self.made(nodes, node)]}
        self.send(200, {number: {"outputs": outputs, "status": {"status_str": "success", "completed": True}}})

    def made(self, nodes: dict, saver: dict) -> dict:
        said = json.dumps({k: v for k, v in nodes.items() if v is not saver}, sort_keys=True)
        name = f"{saver['inputs'].get('filename_prefix', 'temp')}_{len(self.state.done)}_.png"
        self.state.done[name] = drawn(said, side=self.state.side)
        return {"filename": name, "subfolder": "", "type": "output"}


@contextmanager
def serving(kind: type[Handler], tls: SSLContext | None = None, **told: object) -> Iterator[tuple[str, State]]:
    """Serve a protocol on a port of its own, and yield its address and its state."""
    state = State(**told)
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    server.block_on_close = False
    url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.RequestHandlerClass = type(kind.__name__, (kind,), {"state": state, "url": url})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield url, state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def drawn(*about: object, side: int = SIDE) -> bytes:
    """Return a PNG that depends on `about` only."""
    seed = int.from_bytes(repr(about).encode("utf-8", "surrogatepass"))
    return images.encode_png(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def fresh(state: State) -> bytes:
    """Return a PNG that was never returned before."""
    with state.lock:
        state.drawn += 1
    return drawn("fresh", time.time_ns(), state.drawn, side=state.side)


def status(code: int, code_word: str = "", message: str = "no", **headers: str) -> Fault:
    """Answer with an HTTP status and an error as OpenAI words it."""

    def fault(handler: Handler) -> bool:
        handler.send(code, {"error": {"code": code_word, "message": message}}, **headers)
        return False

    return fault


def says(data: bytes | dict, **headers: str) -> Fault:
    """Answer 200 with anything at all."""

    def fault(handler: Handler) -> bool:
        handler.send(200, data, **headers)
        return False

    return fault


def hang(seconds: float) -> Fault:
    """Say nothing for a while, then hang up."""

    def fault(handler: Handler) -> bool:
        time.sleep(seconds)
        handler.close_connection = True
        return False

    return fault


def drip(seconds: float) -> Fault:
    """Send an answer byte by byte, for a while, without an end."""

    def fault(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("content-length", "1000000")
        handler.end_headers()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            handler.wfile.write(b" ")
            time.sleep(0.02)
        handler.close_connection = True
        return False

    return fault


def cut(handler: Handler) -> bool:
    """Promise a body and send half of it."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 500)
    handler.close_connection = True
    return False


def cut_chunks(handler: Handler) -> bool:
    """Promise a chunk and send half of it."""
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"100\r\n" + b" " * 0x80)
    handler.close_connection = True
    return False


def reset(handler: Handler) -> bool:
    """Reset the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 10)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    return False


def endless(handler: Handler) -> bool:
    """Send chunks for as long as anybody reads."""
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    piece = b"10000\r\n" + bytes(2**16) + b"\r\n"
    for _ in range(4096):
        handler.wfile.write(piece)
    handler.close_connection = True
    return False


def tls_of(folder: Path) -> SSLContext:
    """Return a context with a certificate of localhost that it signed itself, `tls.pem` in the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    made = made.add_extension(names, critical=False)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "tls.pem"
    path.write_bytes(secret + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
