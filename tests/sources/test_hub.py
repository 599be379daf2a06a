"""Datasets of the hub, streamed: from a folder laid out like one, since no test may ask the network."""

import subprocess
import sys

import pytest
import specimens

from byrote import sources
from byrote.errors import CorpusError
from byrote.sources.huggingface import Hub
from byrote.testing import check_source


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Make `owner/name` a dataset with two splits, of two files and of one, in the folder where the test runs."""
    datasets = pytest.importorskip("datasets", reason="the extra [datasets] is not installed")
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    made = specimens.parquet(tmp_path / "made")
    data = tmp_path / "owner" / "name" / "data"
    data.mkdir(parents=True)
    for source, name in (("a", "train-00000-of-00002"), ("b", "train-00001-of-00002"), ("b", "test-00000-of-00001")):
        (data / f"{name}.parquet").write_bytes((made / f"{source}.parquet").read_bytes())


@pytest.mark.usefixtures("hub")
def test_a_dataset_streams_its_pictures_as_they_are_stored_with_their_captions():
    source = sources.open("hf:owner/name:train")
    check_source(source)
    assert [one.captions for one in source.list()] == specimens.CAPTIONS
    assert [source.read(one.where) for one in source.list()] == specimens.PICTURES


@pytest.mark.usefixtures("hub")
def test_all_splits_are_listed_where_none_is_named_by_shard_and_row():
    wheres = [one.where for one in sources.open("hf:owner/name").list()]
    assert wheres[:3] == ["test/00000#000000000", "test/00000#000000001", "train/00000#000000000"]
    assert wheres[-1] == "train/00001#000000001"
    assert len(wheres) == 8


@pytest.mark.usefixtures("hub")
def test_what_is_not_there_is_told_in_one_line():
    for uri, told in (("hf:owner/gone", "cannot be opened"), ("hf:owner/name:gone", "gone")):
        with pytest.raises(CorpusError) as raised:
            list(sources.open(uri).list())
        assert told in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(FileNotFoundError):
        sources.open("hf:owner/name:train").read("train/00000#000000099")


@pytest.mark.usefixtures("hub")
def test_a_row_that_points_to_a_file_of_this_machine_is_not_followed(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    secret = tmp_path / "secret.png"
    secret.write_bytes(specimens.PICTURES[0])
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    paths = [
        str(secret),
        f"file://{secret}",
        f"hf://datasets/owner/name@x/a::file://{secret}",
        "hf://datasets/owner/names/x",
    ]
    rows = pa.array([{"bytes": None, "path": path} for path in paths], kind)
    (tmp_path / "evil").mkdir()
    pq.write_table(pa.table({"image": rows}), tmp_path / "evil" / "train.parquet")
    source = sources.open("hf:evil:train")
    for one in source.list():
        with pytest.raises(OSError, match=r"^a path outside the dataset$"):
            source.read(one.where)


@pytest.mark.parametrize("text", ["a b", "owner/name@", "owner/name:", "a/b/c/d", "owner//x", "../up x"])
def test_what_is_no_name_is_told(text):
    with pytest.raises(CorpusError):
        sources.open(f"hf:{text}")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("name", ("name", None, None, None)),
        ("owner/name", ("owner/name", None, None, None)),
        ("owner/name:train", ("owner/name", None, None, "train")),
        ("owner/name/plain:train", ("owner/name", None, "plain", "train")),
        ("owner/name@0123abc/plain:train", ("owner/name", "0123abc", "plain", "train")),
        ("name@main/plain", ("name", "main", "plain", None)),
    ],
)
def test_a_name_may_carry_revision_config_and_split(text, asked):
    assert Hub(text)._asked == asked


def test_without_the_extra_the_way_to_it_is_told():
    code = (
        "import sys; sys.modules['datasets'] = None\n"
        "from byrote import sources, errors\n"
        "try: list(sources.open('hf:owner/name').list())\n"
        "except errors.CorpusError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'byrote[datasets]'" in told.stdout
