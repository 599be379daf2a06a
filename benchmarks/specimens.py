"""One small source of every kind, with the same few pictures and captions: for the tests, and for fuzz.py to mutate."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CAPTIONS = [("a red hat",), ("a blue hat", "headwear, blue"), (), ("ein grüner Hut",), ("yes",), ("no",)]
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")


def pixels(k: int, side: int = 16) -> np.ndarray:
    """Draw picture `k`, unlike the others."""
    return np.random.default_rng(k).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encoded(k: int, kind: str | None = None) -> bytes:
    """Return picture `k` as a file; its format goes by its number."""
    file = io.BytesIO()
    Image.fromarray(pixels(k)).save(file, kind or FORMATS[k % len(FORMATS)])
    return file.getvalue()


PICTURES = [encoded(k) for k in range(len(CAPTIONS))]


def named(k: int) -> str:
    """Return the file name of picture `k`."""
    return f"{k:05d}.{FORMATS[k % len(FORMATS)].lower()}"


def folder(root: Path) -> Path:
    """Write a folder with metadata.jsonl, one caption in a sidecar."""
    root.mkdir(parents=True)
    for k, data in enumerate(PICTURES):
        (root / named(k)).write_bytes(data)
    rows = [{"file_name": named(k), "text": list(CAPTIONS[k])} for k in range(1, len(PICTURES))]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "00000.txt").write_text(CAPTIONS[0][0])
    return root


def tar(path: Path, members: Mapping[str, bytes], format: int = tarfile.USTAR_FORMAT) -> Path:
    """Write a tar file."""
    with tarfile.open(path, "w", format=format) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            file.addfile(info, io.BytesIO(data))
    return path


def shards(root: Path) -> Path:
    """Write two tar shards as img2dataset does: captions in .txt, in .json, and in the parquet file beside."""
    root.mkdir(parents=True)
    for shard, ks in (("00000", range(3)), ("00001", range(3, len(PICTURES)))):
        members: dict[str, bytes] = {}
        for k in ks:
            key = f"{k:09d}"
            members[f"{key}.{named(k)[6:]}"] = PICTURES[k]
            if k == 0:
                members[f"{key}.txt"] = CAPTIONS[k][0].encode()
            if k in (1, 2):
                members[f"{key}.json"] = json.dumps({"caption": list(CAPTIONS[k]) or None, "key": key}).encode()
        tar(root / f"{shard}.tar", members)
    table = {"key": [f"{k:09d}" for k in range(3, 6)], "caption": [CAPTIONS[k][0] for k in range(3, 6)]}
    pq.write_table(pa.table(table), root / "00001.parquet")
    return root


def parquet(root: Path) -> Path:
    """Write two parquet files with the struct of Hugging Face, several row groups each."""
    root.mkdir(parents=True)
    for part, ks in (("a", range(4)), ("b", range(4, len(PICTURES)))):
        image = pa.array([{"bytes": PICTURES[k], "path": named(k)} for k in ks])
        said = pa.array([list(CAPTIONS[k]) for k in ks], pa.list_(pa.string()))
        pq.write_table(pa.table({"image": image, "text": said, "label": list(ks)}), root / f"{part}.parquet", 2)
    return root


def saved(root: Path) -> Path:
    """Write a folder as `save_to_disk` does: one split, two Arrow files."""
    inner = root / "train"
    inner.mkdir(parents=True)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("text", pa.list_(pa.string())),
        ]
    )
    names = []
    for part, ks in enumerate((range(4), range(4, len(PICTURES)))):
        names.append(f"data-{part:05d}-of-00002.arrow")
        with pa.OSFile(str(inner / names[-1]), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            for k in ks:
                rows = {"image": [{"bytes": PICTURES[k], "path": None}], "text": [list(CAPTIONS[k])]}
                stream.write_batch(pa.RecordBatch.from_pydict(rows, schema))
    (inner / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (inner / "dataset_info.json").write_text("{}")
    return root


def archive(root: Path) -> Path:
    """Write a dataset.zip as StyleGAN and EDM do, with metadata.jsonl besides: half stored, half deflated."""
    root.mkdir(parents=True)
    with zipfile.ZipFile(root / "dataset.zip", "w") as file:
        for k, data in enumerate(PICTURES):
            file.writestr(f"00000/{named(k)}", data, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[k % 2])
        rows = [{"file_name": f"00000/{named(k)}", "text": list(CAPTIONS[k])} for k in range(len(PICTURES))]
        file.writestr("metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        file.writestr("dataset.json", json.dumps({"labels": [[f"00000/{named(k)}", k] for k in range(6)]}))
    return root / "dataset.zip"


def stacked() -> np.ndarray:
    """Return all pictures as one array."""
    return np.stack([pixels(k) for k in range(len(PICTURES))])


def arrays(root: Path) -> Path:
    """Write an .npz, packed, with labels."""
    root.mkdir(parents=True)
    np.savez_compressed(root / "x.npz", images=stacked(), labels=np.arange(len(PICTURES)))
    return root / "x.npz"


def array(root: Path) -> Path:
    """Write an .npy, channels first."""
    root.mkdir(parents=True)
    np.save(root / "x.npy", np.ascontiguousarray(stacked().transpose(0, 3, 1, 2)))
    return root / "x.npy"


def cifar(root: Path) -> Path:
    """Write a folder of CIFAR-10's binary files, with the test file."""
    root.mkdir(parents=True)
    records = [bytes([k]) + pixels(k, 32).transpose(2, 0, 1).tobytes() for k in range(6)]
    (root / "data_batch_1.bin").write_bytes(b"".join(records[:4]))
    (root / "data_batch_2.bin").write_bytes(b"".join(records[4:]))
    (root / "test_batch.bin").write_bytes(records[0])
    return root


def listing(root: Path) -> Path:
    """Write a folder and beside it a list of its files."""
    folder(root / "pictures")
    rows = [{"path": f"pictures/{named(k)}", "captions": list(CAPTIONS[k])} for k in range(len(PICTURES))]
    (root / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "list.jsonl"


KINDS: dict[str, Callable[[Path], Path]] = {
    "folder": folder,
    "tar": shards,
    "parquet": parquet,
    "saved": saved,
    "zip": archive,
    "npz": arrays,
    "npy": array,
    "cifar": cifar,
    "list": listing,
}
TOLD = ("folder", "tar", "parquet", "saved", "zip", "list")  # those that hold captions
