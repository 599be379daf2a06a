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
LARGEST = 16 * 2**20
"""Bytes of an envelope that is read at all: a statement names some ten files."""
Json = dict[str, Any]
_STANDARD = str.maketrans("-_", "+/")


def pae(kind: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: what is signed."""
    return b" ".join((b"DSSEv1", str(len(kind.encode())).encode(), kind.encode(), str(len(payload)).encode(), payload))


def sign(statement: Json, key: Ed25519PrivateKey) -> Json:
    """Wrap a statement and sign it."""
    payload = json.dumps(statement, sort_keys=True).encode()
    signature = {"keyid": keyid(key.public_key()), "sig": b64encode(key.sign(pae(PAYLOAD, payload))).decode()}
    return {"payloadType": PAYLOAD, "payload": b64encode(payload).decode(), "signatures": [signature]}


def read(path: Path) -> Any:
    """Read an envelope. Raises OSError; ValueError where it is no JSON, or too large to be one of ours."""
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"no DSSE envelope: larger than {LARGEST:,} bytes")
    return _parsed(data)


def opened(envelope: Any, key: Ed25519PublicKey | None) -> tuple[Json, str | None]:
    """Return the statement inside, and what is wrong with the signature (None where it holds or no key is given).

    One signature of the key is enough, whoever else has signed; `keyid` is a hint and decides nothing. Raises
    ValueError where it is no envelope of ours.
    """
    try:
        payload, kind = _decoded(envelope["payload"]), envelope["payloadType"]
        signatures = [_decoded(each["sig"]) for each in envelope["signatures"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"no DSSE envelope: {type(error).__name__}: {error}") from error
    statement = _parsed(payload)
    if kind != PAYLOAD or not isinstance(statement, dict):
        raise ValueError(f"no statement: its payload is {str(kind)[:80]!r}, not an object of {PAYLOAD}")
    if not signatures:
        raise ValueError("no DSSE envelope: nobody has signed it")
    return statement, None if key is None else _wrong(signatures, key, pae(kind, payload))


def keyid(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of the raw public key."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def new_key(path: Path) -> Ed25519PrivateKey:
    """Make a key pair: `path` for the owner's eyes only, and path.pub beside it. Raises StoreError.

    A file that is there is left as it is, whichever of the two.
    """
    key, public = Ed25519PrivateKey.generate(), path.with_name(path.name + ".pub")
    pem, raw = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        secret = _passphrase()
        how = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
        data = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, how)
        if public.exists():
            raise FileExistsError(str(public))
        _create(path, data, 0o600)
        _create(public, key.public_key().public_bytes(pem, raw), 0o644)
    except FileExistsError as error:
        raise StoreError(f"{path} or {public} is there already; leave out --new-key to sign with it") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        raise StoreError(f"{path}: no key made: the passphrase in {PASSPHRASE} does not do: {error}") from error
    return key


def read_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key; a passphrase comes from the environment. Raises StoreError."""
    try:
        key = serialization.load_pem_private_key(_read(path), _passphrase())
    except TypeError as error:
        raise StoreError(f"{path}: {error}; {PASSPHRASE} is for the passphrase, and unset without one") from error
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


def _wrong(signatures: list[bytes], key: Ed25519PublicKey, signed: bytes) -> str | None:
    if any(_holds(signature, key, signed) for signature in signatures):
        return None
    return f"none of the key {keyid(key)[:16]} that fits what is signed"


def _holds(signature: bytes, key: Ed25519PublicKey, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error


def _decoded(text: str) -> bytes:
    """Decode base64 of either alphabet, as the protocol wants it."""
    return b64decode(text.translate(_STANDARD), validate=True)


def _passphrase() -> bytes | None:
    return os.fsencode(os.environ.get(PASSPHRASE, "")) or None


def _create(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}; --new-key makes a key") from error
