import pickle

import numpy as np
import pytest
import specimens

from byrote import images, sources
from byrote.errors import CorpusError
from byrote.testing import check_source

RGB = specimens.stacked()


def opened(tmp_path, **arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    return sources.open(str(tmp_path / "x.npz"))


def pixels(source):
    return np.stack([images.decode(source.read(one.where)) for one in source.list()])


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (RGB, RGB),
        (np.ascontiguousarray(RGB.transpose(0, 3, 1, 2)), RGB),
        (np.ascontiguousarray(RGB[..., 0]), np.repeat(RGB[..., :1], 3, 3)),
        (np.ascontiguousarray(RGB[..., :1]), np.repeat(RGB[..., :1], 3, 3)),
        (np.ascontiguousarray(RGB[:, None, :, :, 0]), np.repeat(RGB[..., :1], 3, 3)),
        (np.ascontiguousarray(RGB[:, :5]), RGB[:, :5]),
    ],
)
def test_every_layout_gives_its_pixels_and_nothing_is_lost(tmp_path, stored, expected):
    assert np.array_equal(pixels(opened(tmp_path, x=stored)), expected)
    np.save(tmp_path / "x.npy", stored)
    assert np.array_equal(pixels(sources.open(str(tmp_path / "x.npy"))), expected)


def test_all_arrays_of_pictures_are_listed_and_the_others_noted(tmp_path):
    source = opened(tmp_path, train=RGB[:2], test=RGB[2:], y=np.zeros((6, 1), np.uint8), z=np.zeros(3))
    wheres = [one.where for one in source.list()]
    assert wheres == [f"test#{k:09d}" for k in range(4)] + [f"train#{k:09d}" for k in range(2)]
    assert [note.where for note in source.notes] == ["y.npy", "z.npy"]
    check_source(source)


def test_rows_of_a_packed_array_are_read_in_any_order(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=RGB)
    source = sources.open(str(tmp_path / "x.npz"))
    for k in (5, 0, 3, 4, 2):
        assert np.array_equal(images.decode(source.read(f"x#{k:09d}")), RGB[k])


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (RGB.astype(np.float32), "float32 in rows: save it as uint8 in rows"),
        (np.asfortranarray(RGB), "uint8 in columns: save it as uint8 in rows"),
        (np.zeros((2, 3), np.uint8), "no pictures in [2, 3]"),
        (np.zeros((0, 4, 4, 3), np.uint8), "no pictures in [0, 4, 4, 3]"),
        (np.zeros((2, 4, 4, 4), np.uint8), "no pictures in [2, 4, 4, 4]"),
        (np.array([{"a": 1}]), "object in rows"),
    ],
)
def test_what_is_no_array_of_pictures_is_told(tmp_path, array, told):
    with pytest.raises(CorpusError) as raised:
        list(opened(tmp_path, x=array).list())
    assert told in str(raised.value)
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(CorpusError) as raised:
        list(sources.open(str(tmp_path / "x.npy")).list())
    assert told in str(raised.value)


def test_an_array_that_claims_more_than_there_is_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", RGB)
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(data.replace(b"(6, 16", b"(7, 16"))
    with pytest.raises(CorpusError, match=r"it claims \[7, 16, 16, 3\] and has \d+ bytes: broken or truncated"):
        list(sources.open(str(tmp_path / "x.npy")).list())


def test_a_bomb_of_packed_zeros_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1_000_000, 1, 3), np.uint8))
    with pytest.raises(CorpusError, match=r"it claims \[1000000, 1, 3\]"):
        list(sources.open(str(tmp_path / "x.npz")).list())


@pytest.mark.parametrize("labels", [1, 2])
def test_cifar_gives_its_pictures(tmp_path, labels):
    shown = [specimens.pixels(k, 32) for k in range(3)]
    records = [bytes(labels) + one.transpose(2, 0, 1).tobytes() for one in shown]
    file = tmp_path / ("data_batch_1.bin" if labels == 1 else "train.bin")
    file.write_bytes(b"".join(records))
    for place in (file, tmp_path):
        source = sources.open(str(place))
        assert np.array_equal(pixels(source), shown)
        check_source(source)


def test_a_folder_of_cifar_stands_for_its_training_files_and_the_test_file_can_be_named(tmp_path):
    root = specimens.cifar(tmp_path / "x")
    source = sources.open(str(root))
    assert {one.where.partition("#")[0] for one in source.list()} == {"data_batch_1.bin", "data_batch_2.bin"}
    assert [note.where for note in source.notes] == ["test_batch.bin"]
    assert [one.where for one in sources.open(str(root / "test_batch.bin")).list()] == ["test_batch.bin#000000000"]


def test_the_python_version_of_cifar_is_refused_with_the_way_out(tmp_path):
    file = tmp_path / "data_batch_1"
    file.write_bytes(pickle.dumps({b"data": RGB}, protocol=2))
    for uri in (str(file), f"cifar:{file}"):
        with pytest.raises(CorpusError, match=r"get the binary version.*"):
            list(sources.open(uri).list())
    with pytest.raises(CorpusError, match=r"is it CIFAR's binary version\?"):
        list(sources.open(f"cifar:{tmp_path}").list())
