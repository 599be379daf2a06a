"""Ways to damage a file, blindly or where it hurts: each takes its bytes and a die, and returns other bytes."""

import json
import re
import struct
import zlib
from collections.abc import Callable
from random import Random

LIES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    10**6,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**40,
    2**63 - 1,
    2**64 - 1,
)
NAMES = (
    "../secret.png",
    "../../secret.png",
    "/etc/passwd",
    "a/../../secret.png",
    "..\\secret.png",
    ".",
    "..",
    "a\0b",
    "",
)
Mutation = Callable[[bytes, Random], bytes]


def flips(data: bytes, die: Random) -> bytes:
    """Turn 1 to 64 bits."""
    out = bytearray(data)
    for _ in range(die.choice((1, 2, 8, 64))):
        if out:
            out[die.randrange(len(out))] ^= 1 << die.randrange(8)
    return bytes(out)


def flips_at_an_end(data: bytes, die: Random) -> bytes:
    """Turn bits within the first or the last few hundred bytes, where headers and footers are."""
    size = min(len(data), die.choice((64, 256, 1024)))
    if die.random() < 0.5:
        return flips(data[:size], die) + data[size:]
    return data[: len(data) - size] + flips(data[len(data) - size :], die)


def truncated(data: bytes, die: Random) -> bytes:
    """Cut the end or the beginning off."""
    at = die.randrange(len(data) + 1)
    return data[:at] if die.random() < 0.8 else data[at:]


def spliced(data: bytes, die: Random) -> bytes:
    """Put a piece of the file somewhere else in it, over or between what is there."""
    a, b = sorted((die.randrange(len(data) + 1), die.randrange(len(data) + 1)))
    at = die.randrange(len(data) + 1)
    return data[:at] + data[a:b] + data[at + (b - a if die.random() < 0.5 else 0) :]


def dropped(data: bytes, die: Random) -> bytes:
    """Leave out a piece, or make it zeros."""
    a, b = sorted((die.randrange(len(data) + 1), die.randrange(len(data) + 1)))
    return data[:a] + (bytes(b - a) if die.random() < 0.5 else b"") + data[b:]


def overwritten(data: bytes, die: Random) -> bytes:
    """Write a number that is a likely lie over some bytes."""
    size = die.choice((1, 2, 4, 8))
    lie = (die.choice(LIES) % 256**size).to_bytes(size, die.choice(("little", "big")))
    at = die.randrange(max(1, len(data) - size))
    return data[:at] + lie + data[at + size :]


def tar_header(data: bytes, die: Random) -> bytes:
    """Lie in a header of a tar file, and mend its checksum: a size, a name, a type, an extended header before it."""
    heads = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    if not heads:
        return flips(data, die)
    at = die.choice(heads)
    block = bytearray(data[at : at + 512])
    lie = die.randrange(5)
    if lie == 0:
        block[124:136] = die.choice(
            (b"77777777777\0", b"00000000000\0", b"-0000000001\0", b"\x80" + bytes(3) + b"\x7f" * 8)
        )
    elif lie == 1:
        block[124:136] = b"\xff" * 12 if die.random() < 0.3 else b"%011o\0" % die.randrange(2**20)
    elif lie == 2:
        block[0:100] = (die.choice(NAMES).encode() + b".png").ljust(100, b"\0")
    elif lie == 3:
        block[156:157] = bytes([die.choice(b"0123456789xgLKSDMNVX\0")])
        block[157:257] = b"../../secret.png".ljust(100, b"\0")
    else:
        return data[:at] + _extended(die) + data[at:]
    return data[:at] + _summed(block) + data[at + 512 :]


def _extended(die: Random) -> bytes:
    """Return a pax or GNU header with its data: a long name, a size, a record that lies of its length."""
    name = "../" * die.choice((1, 50)) + "secret.png"
    records = (
        f"99999 path={name}\n",
        f"30 size={die.choice(LIES)}\n",
        "12 GNU.sparse.size=1\n",
        "0 path=a\n",
        "9" * 300,
    )
    kind = die.choice("xgL")
    body = (name if kind == "L" else die.choice(records)).encode() * die.choice((1, 40))
    block = bytearray(512)
    block[0:7], block[156:157] = b"@header", kind.encode()
    block[124:136] = b"%011o\0" % die.choice((len(body), 2**33 - 1, 0, len(body)))
    block[257:265] = b"ustar\x0000"
    return _summed(block) + body.ljust(-(-len(body) // 512) * 512, b"\0")


def _summed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def zip_directory(data: bytes, die: Random) -> bytes:
    """Lie in the directory of a zip file: a method, a size, an offset, a name, the place of the directory itself."""
    heads = [found.start() for found in re.finditer(rb"PK\x01\x02|PK\x03\x04|PK\x05\x06", data)]
    if not heads:
        return flips(data, die)
    at = die.choice(heads)
    if die.random() < 0.25 and data[at : at + 4] == b"PK\x01\x02":
        length = int.from_bytes(data[at + 28 : at + 30], "little")
        name = die.choice(NAMES).encode().ljust(length, b"a")[:length]
        return data[: at + 46] + name + data[at + 46 + length :]
    field, size = die.choice(((8, 2), (6, 2), (10, 2), (16, 4), (20, 4), (24, 4), (12, 4), (28, 2), (30, 2), (42, 4)))
    return _laid(data, at + field, size, "little", die)


def _laid(data: bytes, at: int, size: int, order: str, die: Random) -> bytes:
    lie = die.choice(LIES) if die.random() < 0.6 else die.randrange(2**16)
    return data[:at] + (lie % 256**size).to_bytes(size, "little" if order == "little" else "big") + data[at + size :]


def parquet_footer(data: bytes, die: Random) -> bytes:
    """Damage the footer of a parquet file, or lie of its length."""
    if len(data) < 12:
        return data
    length = min(int.from_bytes(data[-8:-4], "little"), len(data) - 8)
    if die.random() < 0.15:
        return _laid(data, len(data) - 8, 4, "little", die)
    footer = die.choice((flips, overwritten, spliced, dropped))(data[-8 - length : -8], die)
    return data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + data[-4:]


def parquet_pages(data: bytes, die: Random) -> bytes:
    """Damage the pages of a parquet file and leave its footer as it is."""
    length = min(int.from_bytes(data[-8:-4], "little"), len(data) - 8)
    cut = max(4, len(data) - 8 - length)
    damaged = die.choice((flips, overwritten))(data[4:cut], die) if cut > 4 else b""
    return data[:4] + damaged + data[cut:]


def npy_header(data: bytes, die: Random) -> bytes:
    """Lie in the header of an array: its shape, its type, its order, its length."""
    shapes = (
        f"({die.choice(LIES)}, 16, 16, 3)",
        "(6, 0, 16, 3)",
        "(-1, 16, 16, 3)",
        "()",
        "(" * 200,
        "(6, 1, 1, 1, 768)",
    )
    types = ("|O", "|u1", "<f8", "|V100000000", "<M8[s]", "[('a','|u1')]")
    kind = die.choice(types) if die.random() < 0.4 else "|u1"
    order = die.choice(("False", "True", "0")) if die.random() < 0.3 else "False"
    header = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {die.choice(shapes)}, }}"
    length = int.from_bytes(data[8:10], "little")
    body = header.encode().ljust(length)[:length] if die.random() < 0.8 else header.encode() * 200
    size = len(body) if die.random() < 0.8 else die.choice(LIES) % 65536
    return data[:8] + (size % 65536).to_bytes(2, "little") + body + data[10 + length :]


def text(data: bytes, die: Random) -> bytes:
    """Put hostile values in the place of texts in JSON or a list: names that leave, deep nests, no text at all."""
    values = [json.dumps(name) for name in NAMES] + [
        "[" * 5000,
        "null",
        "1" * 5000,
        '"\\ud800"',
        "{}",
        '["a", 1, [2]]',
        "NaN",
    ]
    values.append(json.dumps("x" * 2**21))
    found = list(re.finditer(rb'"(?:[^"\\]|\\.)*"', data))
    if not found:
        return flips(data, die)
    at = die.choice(found)
    return data[: at.start()] + die.choice(values).encode() + data[at.end() :]


def dimensions(data: bytes, die: Random) -> bytes:
    """Lie about the size of a picture where its format tells it; of a PNG the checksum is mended."""
    if data.startswith(b"\x89PNG"):
        head = bytearray(data[12:29])
        at = die.choice((4, 8, 12, 13, 15, 16))
        head[at : at + 4 if at < 12 else at + 1] = _side(4, ">", die) if at < 12 else bytes([die.randrange(256)])
        return data[:12] + bytes(head) + struct.pack(">I", zlib.crc32(head)) + data[33:]
    if data.startswith(b"\xff\xd8"):
        found = re.search(rb"\xff[\xc0-\xc2]", data)
        return _put(data, found.start() + die.choice((5, 7)) if found else 2, _side(2, ">", die))
    if data.startswith(b"GIF8"):
        return _put(data, die.choice((6, 8)), _side(2, "<", die))
    if data.startswith(b"BM"):
        return _put(data, die.choice((10, 14, 18, 22, 28, 30, 46)), _side(4, "<", die))
    if data.startswith(b"RIFF"):
        return _put(data, die.choice((4, 16, 21, 23, 24, 26, 27)), _side(2, "<", die))
    if data.startswith((b"II*\0", b"MM\0*")):
        start = int.from_bytes(data[4:8], "little")
        entry = start + 2 + 12 * die.randrange(12)
        return _put(data, entry + die.choice((0, 2, 4, 8)), _side(4, "<", die))
    return overwritten(data, die)


def _side(size: int, order: str, die: Random) -> bytes:
    lie = die.choice((*LIES, 8191, 16384, 30000)) % 256**size
    return lie.to_bytes(size, "big" if order == ">" else "little")


def _put(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


BLIND: tuple[Mutation, ...] = (flips, flips_at_an_end, truncated, spliced, dropped, overwritten)
AIMED: dict[str, tuple[Mutation, ...]] = {
    ".tar": (tar_header,),
    ".zip": (zip_directory, text),
    ".npz": (zip_directory,),
    ".npy": (npy_header,),
    ".parquet": (parquet_footer, parquet_pages),
    ".arrow": (flips_at_an_end, overwritten),
    ".json": (text,),
    ".jsonl": (text,),
    ".csv": (text,),
    ".txt": (text,),
}
PICTURE: tuple[Mutation, ...] = (dimensions,)


def mutated(data: bytes, suffix: str, die: Random) -> tuple[str, bytes]:
    """Damage a file in one to three ways, more often aimed than not; return the names of the ways, and the bytes."""
    aimed = AIMED.get(suffix, PICTURE)
    ways = [die.choice(aimed if aimed and die.random() < 0.6 else BLIND) for _ in range(die.choice((1, 1, 1, 2, 3)))]
    for way in ways:
        data = way(data, die)
    return "+".join(way.__name__ for way in ways), data
