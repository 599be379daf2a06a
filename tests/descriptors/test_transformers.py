"""CLIP and DINOv2 as tiny models with random weights, against transformers' own way with a picture."""

import json

import numpy as np
import pytest
import torch
from descriptors.pictures import drawn
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
)

from byrote import descriptors
from byrote.errors import DescriptorError
from byrote.testing import check_descriptor

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TINY, "intermediate_size": 32, "projection_dim": 12, "image_size": 32, "patch_size": 8}
TEXT = {**TINY, "intermediate_size": 32, "vocab_size": 20, "max_position_embeddings": 8, "projection_dim": 12}
IMAGES = [drawn(1, 50, 70), drawn(2, 50, 70), drawn(3, 90, 40), drawn(4, 20, 24)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=12)).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("dinov2")
    Dinov2Model(Dinov2Config(**TINY, image_size=28, patch_size=14, mlp_ratio=2)).save_pretrained(folder)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    BitImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, image_mean=mean, image_std=deviation
    ).save_pretrained(folder)
    return folder


def unit(vectors):
    return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()


def test_clip_gives_the_projected_vectors_of_transformers_own_preprocessing(clip):
    pixels = CLIPImageProcessorPil.from_pretrained(clip)(list(map(Image.fromarray, IMAGES)), return_tensors="pt")
    with torch.inference_mode():
        truth = unit(CLIPVisionModelWithProjection.from_pretrained(clip).eval()(**pixels).image_embeds)
    found = descriptors.open(f"clip:{clip}").describe(IMAGES)
    assert found.shape == (4, 12)
    np.testing.assert_allclose(found, truth, atol=1e-5)


def test_dinov2_gives_the_class_token_of_transformers_own_preprocessing(dinov2):
    pixels = BitImageProcessorPil.from_pretrained(dinov2)(list(map(Image.fromarray, IMAGES)), return_tensors="pt")
    with torch.inference_mode():
        truth = unit(Dinov2Model.from_pretrained(dinov2).eval()(**pixels).pooler_output)
    found = descriptors.open(f"dinov2:{dinov2}").describe(IMAGES)
    assert found.shape == (4, 16)
    np.testing.assert_allclose(found, truth, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_the_contract_holds_and_no_threshold_is_made_up(kind, request):
    folder = request.getfixturevalue(kind)
    descriptor = descriptors.open(f"{kind}:{folder.name}", relative_to=folder.parent)
    check_descriptor(descriptor, IMAGES)
    assert descriptor.threshold is None


def copied(folder, to):
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def settings(folder, **changed):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_name_changes_with_the_weights_and_with_the_preprocessing(clip, tmp_path):
    folder = copied(clip, tmp_path)
    names = [descriptors.open(f"clip:{folder}").name]
    assert names[0] == descriptors.open(f"clip:{clip}").name
    settings(folder, resample=2)
    names.append(descriptors.open(f"clip:{folder}").name)
    state = load_file(folder / "model.safetensors")
    state["visual_projection.weight"] += 1
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    names.append(descriptors.open(f"clip:{folder}").name)
    assert len(set(names)) == 3
    assert all("-short32-crop32x32-" in name for name in names)


def test_old_preprocessing_with_bare_numbers_means_the_same(clip, tmp_path):
    folder = copied(clip, tmp_path)
    settings(folder, size=32, crop_size=32)
    truth = descriptors.open(f"clip:{clip}").describe(IMAGES)
    np.testing.assert_array_equal(descriptors.open(f"clip:{folder}").describe(IMAGES), truth)


def test_a_whole_size_squashes_the_picture(clip, tmp_path):
    folder = copied(clip, tmp_path)
    settings(folder, size={"height": 32, "width": 32}, do_center_crop=False)
    squashed = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)) for image in IMAGES]
    truth = descriptors.open(f"clip:{clip}").describe(squashed)
    np.testing.assert_allclose(descriptors.open(f"clip:{folder}").describe(IMAGES), truth, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"size": {"longest_edge": 32}}, "not understood"),
        ({"crop_size": None}, "not understood"),
        ({"do_center_crop": False}, "one size"),
        ({"size": {"shortest_edge": 30}}, "one size"),
        ({"do_resize": False}, "one size"),
    ],
)
def test_preprocessing_that_leads_nowhere_is_refused_when_opened(clip, tmp_path, changed, told):
    folder = copied(clip, tmp_path)
    settings(folder, **changed)
    with pytest.raises(DescriptorError, match=told):
        descriptors.open(f"clip:{folder}")


def test_a_folder_of_another_model_or_without_its_parts_is_told_in_one_line(clip, dinov2, tmp_path):
    with pytest.raises(DescriptorError, match="model_type 'dinov2', wanted is clip"):
        descriptors.open(f"clip:{dinov2}")
    folder = copied(clip, tmp_path)
    (folder / "model.safetensors").rename(folder / "model.bin")
    with pytest.raises(DescriptorError, match=r"no \.safetensors file"):
        descriptors.open(f"clip:{folder}")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(DescriptorError, match=r"preprocessor_config.json is not there"):
        descriptors.open(f"clip:{folder}")


def test_weights_with_a_part_missing_are_refused_rather_than_made_up(dinov2, tmp_path):
    folder = copied(dinov2, tmp_path)
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.norm1.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DescriptorError, match=r"lack encoder\.layer\.1\.norm1\.weight"):
        descriptors.open(f"dinov2:{folder}").describe(IMAGES[:1])


def test_a_hub_id_without_a_network_says_what_to_download(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DescriptorError, match=r"https://huggingface\.co/facebook/dinov2-base"):
        descriptors.open("dinov2:facebook/dinov2-small")
