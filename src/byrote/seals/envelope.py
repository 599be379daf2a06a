"""A DSSE envelope with an ed25519 signature.

Dead Simple Signing Envelope, protocol v1 of secure-systems-lab: the signature is over PAE(type, payload).
"""

import hashlib
import json
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from byrote.errors import StoreError

PAYLOAD = "application/vnd.in-toto+json"
PASSPHRASE = "BYROTE_KEY_PASSPHRASE"
Json = dict[str, Any]


def pae(kind: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: what is signed."""
    return b" ".join((b"DSSEv1", str(len(kind.encode())).encode(), kind.encode(), str(len(payload)).encode(), payload))


def sign(statement: Json, key: Ed25519PrivateKey) -> Json:
    """Wrap a statement and sign it."""
    payload = json.dumps(statement, sort_keys=True).encode()
    signature = {"keyid": keyid(key.public_key()), "sig": b64encode(key.sign(pae(PAYLOAD, payload))).decode()}
    return {"payloadType": PAYLOAD, "payload": b64encode(payload).decode(), "signatures": [signature]}


def opened(envelope: Any, key: Ed25519PublicKey | None) -> tuple[Json, str | None]:
    """Return the statement inside, and what is wrong with the signature (None where it holds or no key is given).

    Raises ValueError where it is no envelope of ours.
    """
    try:
        payload = b64decode(envelope["payload"], validate=True)
        statement, kind = json.loads(payload), envelope["payloadType"]
        signatures = [(each["keyid"], b64decode(each["sig"], validate=True)) for each in envelope["signatures"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no DSSE envelope: {error}") from error
    if kind != PAYLOAD or not isinstance(statement, dict):
        raise ValueError(f"its payload is {kind!r}, not {PAYLOAD}")
    return statement, None if key is None else _wrong(signatures, key, pae(kind, payload))


def keyid(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of the raw public key."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def new_key(path: Path) -> Ed25519PrivateKey:
    """Make a key pair: `path` for the owner's eyes only, and path.pub beside it. Raises StoreError."""
    key = Ed25519PrivateKey.generate()
    secret = os.environ.get(PASSPHRASE)
    how = serialization.BestAvailableEncryption(secret.encode()) if secret else serialization.NoEncryption()
    data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        path.with_name(path.name + ".pub").write_bytes(public)
    except FileExistsError as error:
        raise StoreError(f"{path} is there already; leave out --new-key to sign with it") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    return key


def read_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key; a passphrase comes from the environment. Raises StoreError."""
    secret = os.environ.get(PASSPHRASE)
    try:
        key = serialization.load_pem_private_key(_read(path), secret.encode() if secret else None)
    except TypeError as error:
        raise StoreError(f"{path}: {error}; the passphrase goes into {PASSPHRASE}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StoreError(f"{path}: no private key that can be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{path}: a key of another kind; ed25519 is wanted, --new-key makes one")
    return key


def read_public(path: Path) -> Ed25519PublicKey:
    """Read a public key, or the public half of a private one. Raises StoreError."""
    data = _read(path)
    if b"PRIVATE" in data:
        return read_key(path).public_key()
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StoreError(f"{path}: no public key that can be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise StoreError(f"{path}: a key of another kind; ed25519 is wanted")
    return key


def _wrong(signatures: list[tuple[str, bytes]], key: Ed25519PublicKey, signed: bytes) -> str | None:
    mine = [signature for name, signature in signatures if name == keyid(key)]
    if not mine:
        return f"signed with another key than {keyid(key)[:16]}"
    try:
        key.verify(mine[0], signed)
    except InvalidSignature:
        return "the signature does not fit what is signed"
    return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}; --new-key makes a key") from error
