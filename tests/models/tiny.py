"""Tiny real pipelines with random weights: a folder in a second, samples in milliseconds."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SIDE = 32
END = "<|endoftext|>"


def stable_diffusion(folder: Path, *, seed: int = 0) -> Path:
    """Save a StableDiffusionPipeline that draws 32 x 32 images, and return its folder."""
    torch.manual_seed(seed)
    text = clip(CLIPTextModel, intermediate_size=32, num_hidden_layers=1)
    vae, unet = autoencoder(scaling_factor=1.0), text_unet()
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def stable_diffusion_xl(folder: Path, *, seed: int = 0) -> Path:
    """Save a StableDiffusionXLPipeline that draws 32 x 32 images, and return its folder."""
    small = StableDiffusionPipeline.from_pretrained(stable_diffusion(folder / "small", seed=seed))
    unet = UNet2DConditionModel(
        sample_size=SIDE // 4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=small.vae,
        text_encoder=small.text_encoder,
        text_encoder_2=CLIPTextModelWithProjection(small.text_encoder.config),
        tokenizer=small.tokenizer,
        tokenizer_2=small.tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(),
    )
    pipeline.save_pretrained(folder / "xl", safe_serialization=True)
    return folder / "xl"


def unconditional(folder: Path, *, kind: str = "DDPMPipeline", seed: int = 0) -> Path:
    """Save a DDPMPipeline or a DDIMPipeline that draws 16 x 16 images, and return its folder."""
    torch.manual_seed(seed)
    unet = plain_unet(sample_size=16)
    pipelines = {"DDPMPipeline": (DDPMPipeline, DDPMScheduler), "DDIMPipeline": (DDIMPipeline, DDIMScheduler)}
    pipeline, scheduler = pipelines[kind]
    pipeline(unet=unet, scheduler=scheduler()).save_pretrained(folder, safe_serialization=True)
    return folder


def clip(kind: type = CLIPTextModelWithProjection, **more: object) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Return an encoder of text that reads the letters of `tokenizer`."""
    told = {"intermediate_size": 16, "num_hidden_layers": 2} | more
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer()),
            hidden_size=16,
            projection_dim=16,
            num_attention_heads=2,
            max_position_embeddings=16,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            **told,
        )
    )


def autoencoder(**more: object) -> AutoencoderKL:
    """Return an autoencoder that makes a quarter of each side of an image."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=(8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=SIDE,
        **({"latent_channels": 4, "scaling_factor": 0.5} | more),
    )


def text_unet(**more: object) -> UNet2DConditionModel:
    """Return a denoiser of latents that hears what `clip` says."""
    settings = {"in_channels": 4, "out_channels": 4, "attention_head_dim": 4, "sample_size": SIDE // 4} | more
    return UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        norm_num_groups=4,
        **settings,
    )


def plain_unet(**settings: object) -> UNet2DModel:
    """Return a denoiser that hears nothing."""
    return UNet2DModel(
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
        **settings,
    )


def tokenizer() -> CLIPTokenizer:
    """Return a tokenizer that reads letter by letter."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", END, *letters, *(letter + "</w>" for letter in letters)]
    return CLIPTokenizer(
        vocab={word: k for k, word in enumerate(words)}, merges=[], unk_token=END, pad_token=END, model_max_length=16
    )
