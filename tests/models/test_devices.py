"""Which devices there are and who gets which."""

import pytest

from byrote.errors import ModelError
from byrote.models import devices
from byrote.models.devices import VISIBLE, turns, visible


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("0,1,2", ("0", "1", "2")),
        ("3", ("3",)),
        (" 2, 0 ", ("2", "0")),
        ("GPU-8932f937,MIG-GPU-5/1/0", ("GPU-8932f937", "MIG-GPU-5/1/0")),
        ("0,-1,1", ("0",)),
        ("0,,1", ("0",)),
        ("", ()),
        ("-1", ()),
    ],
)
def test_what_the_user_left_visible_is_kept_to(monkeypatch, said, names):
    monkeypatch.setenv(VISIBLE, said)
    assert visible() == names
    assert turns("cuda") == (tuple({VISIBLE: name} for name in names) or ({},))


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda:0", "cuda:1"])
def test_a_device_that_is_named_stays_as_said(monkeypatch, device):
    monkeypatch.setenv(VISIBLE, "4,5")
    assert turns(device) == ({},)


def test_without_a_word_of_the_user_those_that_torch_sees_are_counted(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.delenv(VISIBLE, raising=False)
    assert visible() == tuple(str(k) for k in range(torch.cuda.device_count()))


def test_a_device_that_is_not_there_is_told():
    devices.check("cpu")
    with pytest.raises(ModelError, match="device 'cuda:99' is not there"):
        devices.check("cuda:99")
    with pytest.raises(ModelError, match="device 'abacus' is not there"):
        devices.check("abacus")
    assert devices.free("cpu") is None
