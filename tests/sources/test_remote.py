"""Sources behind a URL: every kind on s3://, against a server of this machine, opened as a user would."""

import subprocess
import sys

import pytest
import specimens
from store import BUCKET, served, upload

from byrote import sources
from byrote.errors import CorpusError
from byrote.testing import check_source

boto3 = pytest.importorskip("boto3", reason="the object store's client is not installed")
pytest.importorskip("moto", reason="the object store's server is not installed")
pytest.importorskip("s3fs", reason="the extra [s3] is not installed")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """Serve a bucket that holds every kind; its address comes by the environment, as a user gives it."""
    root = tmp_path_factory.mktemp("local")
    with served() as address, pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", address),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        places = {kind: make(root / kind / "made").relative_to(root) for kind, make in specimens.KINDS.items()}
        upload(client, root, "all")
        yield {kind: f"s3://{BUCKET}/all/{place.as_posix()}" for kind, place in places.items()}


@pytest.mark.parametrize("kind", specimens.KINDS)
def test_every_kind_on_s3_is_recognised_and_keeps_the_contract(kind, bucket):
    source = sources.open(bucket[kind])
    check_source(source)
    assert source.notes == [] or kind in ("npz", "cifar")


@pytest.mark.parametrize("kind", specimens.KINDS)
def test_every_kind_on_s3_gives_what_it_gives_on_a_disk(kind, bucket, tmp_path):
    local = sources.open(str(specimens.KINDS[kind](tmp_path / "made")))
    remote = sources.open(bucket[kind])
    here, there = list(local.list()), list(remote.list())
    assert [(one.where, one.captions) for one in there] == [(one.where, one.captions) for one in here]
    assert [remote.read(one.where) for one in there] == [local.read(one.where) for one in here]


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet", "zip"])
def test_the_time_of_change_is_that_of_the_object(kind, bucket):
    assert all(one.modified > 1.6e18 for one in sources.open(bucket[kind]).list())


def test_a_pattern_of_shards_on_s3_stands_for_its_shards(bucket):
    source = sources.open(f"{bucket['tar']}/{{00000..00001}}.tar")
    assert [one.captions for one in source.list()] == specimens.CAPTIONS
    assert [one.where for one in source.list()] == [one.where for one in sources.open(bucket["tar"]).list()]
    assert len(list(sources.open(f"{bucket['tar']}/*1.tar").list())) == 3


def complaint(uri):
    with pytest.raises(CorpusError) as raised:
        list(sources.open(uri).list())
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_not_there_is_told_in_one_line(bucket):
    assert "is not there" in complaint(f"s3://{BUCKET}/nothing")
    assert "is not there" in complaint("s3://no-such-bucket-at-all/x.parquet")
    assert "is not there" in complaint(f"folder:s3://{BUCKET}/nothing")
    with pytest.raises(FileNotFoundError, match=r"^no such file$"):
        sources.open(bucket["folder"]).read("gone.png")


def test_a_list_on_s3_may_name_only_what_lies_beside_it(bucket, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(specimens.PICTURES[0])
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "list.txt").write_text(f"{secret}\n../x.png\nfile://{secret}\n{bucket['folder']}/00000.png\n")
    upload(boto3.client("s3"), tmp_path / "up", "lists")
    source = sources.open(f"s3://{BUCKET}/lists/list.txt")
    reasons = {}
    for one in source.list():
        try:
            reasons[one.where] = source.read(one.where)
        except OSError as error:
            reasons[one.where] = str(error)
    assert reasons.pop(f"{bucket['folder']}/00000.png") == specimens.PICTURES[0]
    assert all("a list behind a URL may name" in reason for reason in reasons.values())
    assert len(reasons) == 3


def test_a_list_here_may_name_pictures_on_s3(bucket, tmp_path):
    (tmp_path / "list.csv").write_text(f"path,caption\n{bucket['folder']}/00000.png,far away\n")
    source = sources.open(str(tmp_path / "list.csv"))
    check_source(source)
    assert [one.captions for one in source.list()] == [("far away",)]


def test_a_store_that_does_not_answer_is_told_in_one_line(bucket, monkeypatch):
    code = "from byrote import sources; list(sources.open('s3://pictures/x').list())"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "CorpusError: source 's3://pictures/x' cannot be read: " in told.stderr


def test_without_the_extra_the_way_to_it_is_told():
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from byrote import sources, errors\n"
        "try: sources.open('s3://pictures/x')\n"
        "except errors.CorpusError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'byrote[s3]'" in told.stdout
