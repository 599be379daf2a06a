import subprocess
import sys
from math import nan
from types import SimpleNamespace

import numpy as np
import pytest
from descriptors.pictures import drawn

from byrote import descriptors
from byrote.descriptors import Descriptor, Threshold
from byrote.errors import DescriptorError
from byrote.testing import check_descriptor


@pytest.mark.parametrize(
    ("uri", "name"), [("thumbnail", "thumbnail32-v1"), ("thumbnail:8", "thumbnail8-v1"), ("pdq", "pdq-v1")]
)
def test_descriptors_without_weights_open_by_their_kind_and_keep_the_contract(uri, name):
    descriptor = descriptors.open(uri)
    assert isinstance(descriptor, Descriptor)
    assert descriptor.name == name
    check_descriptor(descriptor, [drawn(1), drawn(2), drawn(3, 130, 40), drawn(4, 40, 130), drawn(5)])


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("sscb:x", "did you mean 'sscd'"),
        ("thumbnails", "did you mean 'thumbnail'"),
        ("thumbnail:0", "whole number from 1 to 256"),
        ("thumbnail:wide", "whole number from 1 to 256"),
        ("pdq:9", "write pdq"),
        ("sscd:", "sscd:FILE"),
        ("sscd:nowhere.pt", "https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchscript.pt"),
        ("clip:", "https://huggingface.co/openai/clip-vit-base-patch32"),
        ("clip:no folder", "https://huggingface.co/openai/clip-vit-base-patch32"),
        ("dinov2:./nowhere", "https://huggingface.co/facebook/dinov2-base"),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_line_with_the_way_out(uri, told, tmp_path):
    with pytest.raises(DescriptorError) as caught:
        descriptors.open(uri, relative_to=tmp_path)
    assert told in str(caught.value)
    assert uri.partition(":")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kind_of_another_package_opens_by_its_entry_point(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text(
        "from byrote.descriptors.thumbnail import Thumbnail\n"
        "def opened(rest, device, relative_to):\n    return Thumbnail(int(rest) * 2)\n"
    )
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[byrote.descriptors]\ndouble = elsewhere:opened\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert descriptors.open("double:4").name == "thumbnail8-v1"


def test_the_package_and_what_needs_no_weights_import_nothing_heavy():
    code = "import sys; from byrote import descriptors; descriptors.open('thumbnail'); descriptors.open('pdq'); "
    code += "print([name for name in ('torch', 'transformers', 'safetensors') if name in sys.modules])"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


@pytest.mark.parametrize(("value", "says"), [(nan, "a paper"), (0.5, "")])
def test_a_threshold_is_a_number_with_an_origin(value, says):
    with pytest.raises(ValueError, match="threshold"):
        Threshold(value, says)


def test_a_pdq_row_holds_hash_and_quality_and_its_threshold_says_whose_it_is():
    descriptor = descriptors.open("pdq")
    flat = np.full((64, 64, 3), 80, np.uint8)
    rows = descriptor.describe([flat, drawn(1)])
    assert rows.shape == (2, 33)
    assert rows[0, 32] == 0
    assert 50 <= rows[1, 32] <= 100
    assert descriptor.threshold.value == 31
    assert "Meta" in descriptor.threshold.says


GOOD = {"name": "x", "dimensions": 2, "metric": "cosine", "threshold": None}


def broken(**changed):
    def describe(images):
        angles = np.array([float(image.sum()) for image in images])
        rows = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
        return rows * changed.get("length", 1.0) + changed.get("drift", 0.0) * (len(images) == 1)

    attributes = {key: value for key, value in changed.items() if key not in ("length", "drift")}
    return SimpleNamespace(**{**GOOD, **attributes}, describe=describe)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"metric": "euclid"}, "metric must be"),
        ({"metric": "hamming"}, "must not be float32"),
        ({"length": 2.0}, "length 1"),
        ({"drift": 1e-3}, "other images"),
        ({"threshold": Threshold(1.5, "nobody")}, "between -1 and 1"),
        ({"threshold": SimpleNamespace(value=0.5, says="")}, "where it comes from"),
        ({"dimensions": 3}, "rows of 3"),
    ],
)
def test_the_contract_names_what_is_broken(changed, told):
    images = [drawn(1), drawn(2)]
    check_descriptor(broken(), images)
    with pytest.raises(AssertionError, match=told):
        check_descriptor(broken(**changed), images)
