"""SSCD with random weights: our reader against a network of modules, and against the same as TorchScript."""

import warnings

import numpy as np
import pytest
import torch
from descriptors.pictures import drawn
from safetensors.torch import save_file
from torch import nn

from byrote import descriptors
from byrote.descriptors import sscd
from byrote.errors import DescriptorError
from byrote.testing import check_descriptor


class Block(nn.Module):
    """A bottleneck as torchvision builds it, the stride in the middle."""

    def __init__(self, wide, narrow, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(wide, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3, self.bn3 = nn.Conv2d(narrow, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or wide != out:
            self.downsample = nn.Sequential(nn.Conv2d(wide, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class Backbone(nn.Module):
    """ResNet-50 with an eighth of the width, its names those of torchvision."""

    def __init__(self, width=8, dimensions=16):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        wide = width
        for layer, blocks in enumerate((3, 4, 6, 3)):
            narrow, made = width * 2**layer, []
            for block in range(blocks):
                made.append(Block(wide, narrow, narrow * 4, 2 if layer and not block else 1))
                wide = narrow * 4
            setattr(self, f"layer{layer + 1}", nn.Sequential(*made))
        self.fc = nn.Linear(wide, dimensions)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        pooled = (x.clamp(min=1e-6) ** 3).mean((2, 3)) ** (1 / 3)
        return self.fc(pooled)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()

    def forward(self, x):
        return nn.functional.normalize(self.backbone(x))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = Network().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
    return network


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sscd")
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "small.safetensors")
    torch.save(network.state_dict(), folder / "small.torchvision.pt")
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.zeros(1, 3, 96, 128)).save(str(folder / "small.torchscript.pt"))
    return folder


IMAGES = [drawn(1, 60, 80), drawn(2, 60, 80), drawn(3, 90, 60)]


def test_every_kind_of_file_gives_the_vectors_of_the_network(files, network):
    with pytest.warns(UserWarning, match="runs with your rights"):
        script = descriptors.open("sscd:small.torchscript.pt", relative_to=files).describe(IMAGES)
    with torch.inference_mode():
        pixels = [torch.from_numpy(sscd._prepared(image))[None] for image in IMAGES]
        truth = torch.cat([network(image) for image in pixels]).numpy()
    np.testing.assert_allclose(script, truth, atol=2e-6)
    for name in ("small.safetensors", "small.torchvision.pt"):
        own = descriptors.open(f"sscd:{name}", relative_to=files).describe(IMAGES)
        np.testing.assert_allclose(own, truth, atol=2e-6)
    assert np.abs(truth[0] - truth[1]).max() > 1e-3


def test_the_contract_holds_for_weights(files):
    check_descriptor(descriptors.open("sscd:small.safetensors", relative_to=files), IMAGES)


def test_weights_alone_warn_of_nothing(files):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        descriptors.open("sscd:small.torchvision.pt", relative_to=files).describe(IMAGES[:1])


def test_the_shorter_edge_becomes_288_and_the_levels_are_those_of_imagenet():
    grey = np.full((100, 201, 3), 128, np.uint8)
    made = sscd._prepared(grey)
    assert made.shape == (3, 288, 578)
    truth = (128 / 255 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(made[:, 100, 100], truth, atol=1e-5)
    assert sscd._prepared(np.zeros((3, 900, 3), np.uint8)).shape == (3, 288, 2304)


def test_a_name_carries_the_hash_of_the_weights_and_the_preprocessing(files, network, tmp_path):
    names = {
        descriptors.open(f"sscd:{file}", relative_to=files).name
        for file in ("small.safetensors", "small.torchvision.pt")
    }
    other = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    other["backbone.fc.bias"] = other["backbone.fc.bias"] + 1
    save_file(other, tmp_path / "small.safetensors")
    names.add(descriptors.open("sscd:small.safetensors", relative_to=tmp_path).name)
    assert len(names) == 3
    assert all(name.startswith("sscd-") and "short288" in name for name in names)


def test_only_a_file_that_says_disc_mixup_has_the_published_threshold(files, tmp_path):
    (tmp_path / "sscd_disc_mixup.safetensors").write_bytes((files / "small.safetensors").read_bytes())
    threshold = descriptors.open("sscd:sscd_disc_mixup.safetensors", relative_to=tmp_path).threshold
    assert threshold.value == 0.75
    assert "DISC" in threshold.says
    assert descriptors.open("sscd:small.safetensors", relative_to=files).threshold is None


def test_files_that_are_no_weights_are_told_in_one_line(files, network, tmp_path):
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items() if "layer3.4.conv2" not in name}
    save_file(state, tmp_path / "short.safetensors")
    (tmp_path / "junk.pt").write_bytes(b"junk" * 50)
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 50)
    for name, told in (
        ("short.safetensors", "layer3.4.conv2.weight"),
        ("junk.pt", "junk.pt"),
        ("junk.safetensors", "junk"),
    ):
        with pytest.raises(DescriptorError, match=told) as caught:
            descriptors.open(f"sscd:{name}", relative_to=tmp_path).describe(IMAGES[:1])
        assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(DescriptorError):
        descriptors.open("sscd:evil.pt", relative_to=tmp_path).describe(IMAGES[:1])
    assert not (tmp_path / "ran").exists()
