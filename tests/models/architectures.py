"""Tiny pipelines of every family with random weights, built and saved as their makers do: kilobytes, milliseconds."""

from pathlib import Path

import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxInpaintPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    IFSuperResolutionPipeline,
    KandinskyV22CombinedPipeline,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    LDMPipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PriorTransformer,
    SD3Transformer2DModel,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from . import tiny

SIDE = tiny.SIDE


def stable_diffusion_3(folder: Path) -> Path:
    """Save a StableDiffusion3Pipeline with its three encoders of text."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=SIDE // 4,
        patch_size=1,
        in_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=16,
        pos_embed_max_size=16,
    )
    clip = tiny.clip()
    return _saved(
        StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=tiny.autoencoder(latent_channels=16, shift_factor=0.1),
            text_encoder=clip,
            tokenizer=tiny.tokenizer(),
            text_encoder_2=clip,
            tokenizer_2=tiny.tokenizer(),
            text_encoder_3=_t5(32),  # as wide as both others together
            tokenizer_3=_pieces(),
        ),
        folder,
    )


def flux(folder: Path, *, distilled: bool = True) -> Path:
    """Save a FluxPipeline that learnt guidance and shifts its noise with the size, as dev, or neither, as schnell."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=distilled,
    )
    return _saved(
        FluxPipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=distilled),
            vae=tiny.autoencoder(shift_factor=0.1),
            text_encoder=tiny.clip(CLIPTextModel),
            tokenizer=tiny.tokenizer(),
            text_encoder_2=_t5(),
            tokenizer_2=_pieces(),
        ),
        folder,
    )


def schnell(folder: Path) -> Path:
    """Save a FluxPipeline without guidance."""
    return flux(folder, distilled=False)


def pixart(folder: Path, *, kind: type = PixArtSigmaPipeline) -> Path:
    """Save a PixArtSigmaPipeline or a PixArtAlphaPipeline."""
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=SIDE // 4,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        cross_attention_dim=16,
        caption_channels=16,
        use_additional_conditions=False,
    )
    pipeline = kind(
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
        vae=tiny.autoencoder(),
        text_encoder=_t5(),
        tokenizer=_pieces(),
    )
    return _saved(pipeline, folder)


def pixart_alpha(folder: Path) -> Path:
    """Save a PixArtAlphaPipeline."""
    return pixart(folder, kind=PixArtAlphaPipeline)


def kandinsky_prior(folder: Path) -> Path:
    """Save a KandinskyV22PriorPipeline."""
    return _saved(KandinskyV22PriorPipeline(**_prior()), folder)


def kandinsky_decoder(folder: Path) -> Path:
    """Save a KandinskyV22Pipeline."""
    return _saved(KandinskyV22Pipeline(**_decoder()), folder)


def kandinsky_whole(folder: Path) -> Path:
    """Save a KandinskyV22CombinedPipeline of the same weights."""
    prior = {f"prior_{name}": part for name, part in _prior().items()}
    return _saved(KandinskyV22CombinedPipeline(**_decoder(), **prior), folder)


def deepfloyd(folder: Path) -> Path:
    """Save an IFPipeline, the first stage."""
    torch.manual_seed(0)
    parts = {"unet": _if_unet(3), "text_encoder": _t5(), "tokenizer": _pieces(), "scheduler": _learnt()}
    return _saved(IFPipeline(**parts, **_unchecked()), folder)


def deepfloyd_upscaler(folder: Path) -> Path:
    """Save an IFSuperResolutionPipeline with an encoder of text of its own, as the one on the hub has."""
    torch.manual_seed(1)
    unet = _if_unet(6, sample_size=32, class_embed_type="timestep")
    return _saved(
        IFSuperResolutionPipeline(
            unet=unet,
            text_encoder=_t5(),
            tokenizer=_pieces(),
            scheduler=_learnt(),
            image_noising_scheduler=DDPMScheduler(),
            **_unchecked(),
        ),
        folder,
    )


def latent_consistency(folder: Path) -> Path:
    """Save a LatentConsistencyModelPipeline, with the guidance as an input."""
    return _few(folder, LatentConsistencyModelPipeline)


def distilled(folder: Path) -> Path:
    """Save a StableDiffusionPipeline whose denoiser takes the guidance as an input."""
    return _few(folder, StableDiffusionPipeline)


def velocity(folder: Path) -> Path:
    """Save a StableDiffusionPipeline as 2.1 is: v-prediction, linear projections, heads of one width."""
    torch.manual_seed(0)
    unet = tiny.text_unet(attention_head_dim=(2, 4), use_linear_projection=True)
    return _of_stable_diffusion(folder, StableDiffusionPipeline, unet, _steps(prediction_type="v_prediction"))


def inpainting(folder: Path, *, channels: int = 9) -> Path:
    """Save a StableDiffusionInpaintPipeline that sees mask and picture (9 channels), or does not (4)."""
    torch.manual_seed(0)
    unet = tiny.text_unet(in_channels=channels, out_channels=4)
    return _of_stable_diffusion(folder, StableDiffusionInpaintPipeline, unet, _steps())


def inpainting_of_4(folder: Path) -> Path:
    """Save a StableDiffusionInpaintPipeline around an ordinary denoiser."""
    return inpainting(folder, channels=4)


def inpainting_xl(folder: Path) -> Path:
    """Save a StableDiffusionXLInpaintPipeline of 9 channels."""
    plain = StableDiffusionXLPipeline.from_pretrained(tiny.stable_diffusion_xl(folder / "plain"))
    unet = UNet2DConditionModel.from_config(plain.unet.config, in_channels=9, out_channels=4)
    return _saved(StableDiffusionXLInpaintPipeline(**(plain.components | {"unet": unet})), folder / "inpainting")


def inpainting_3(folder: Path) -> Path:
    """Save a StableDiffusion3InpaintPipeline around an ordinary denoiser."""
    plain = StableDiffusion3Pipeline.from_pretrained(stable_diffusion_3(folder / "plain"))
    return _saved(StableDiffusion3InpaintPipeline(**plain.components), folder / "inpainting")


def inpainting_flux(folder: Path) -> Path:
    """Save a FluxInpaintPipeline around an ordinary denoiser."""
    plain = FluxPipeline.from_pretrained(flux(folder / "plain"))
    return _saved(FluxInpaintPipeline(**plain.components), folder / "inpainting")


def class_labels(folder: Path) -> Path:
    """Save a DiTPipeline of 1000 classes, three of them with names."""
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        sample_size=SIDE // 4,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        num_embeds_ada_norm=1000,
    )
    with torch.no_grad():
        for weight in transformer.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)  # it starts at zero, where every label is alike
    names = {0: "tench, Tinca tinca", 1: "goldfish, Carassius auratus", 999: "toilet tissue, toilet paper"}
    pipeline = DiTPipeline(transformer, tiny.autoencoder(), DDIMScheduler(clip_sample=False), names)
    pipeline.register_to_config(id2label=names)
    return _saved(pipeline, folder)


def latent(folder: Path) -> Path:
    """Save an LDMPipeline: no text, a VQ autoencoder."""
    torch.manual_seed(0)
    unet = tiny.plain_unet(sample_size=SIDE // 4, in_channels=4, out_channels=4)
    pipeline = LDMPipeline(vqvae=_quantised(), unet=unet, scheduler=DDIMScheduler())
    return _saved(pipeline, folder)


def consistency(folder: Path, *, classes: int | None = None) -> Path:
    """Save a ConsistencyModelPipeline, of classes or of none."""
    torch.manual_seed(0)
    unet = tiny.plain_unet(sample_size=16, num_class_embeds=classes)
    return _saved(ConsistencyModelPipeline(unet=unet, scheduler=CMStochasticIterativeScheduler()), folder)


def consistency_of_classes(folder: Path) -> Path:
    """Save a ConsistencyModelPipeline of 10 classes."""
    return consistency(folder, classes=10)


def _saved(pipeline: object, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def _t5(width: int = 16) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=len(_pieces()), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )


def _pieces() -> T5Tokenizer:
    """Return a tokenizer of pieces that reads letter by letter."""
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters], extra_ids=0)


def _quantised(width: int = 8, **more: object) -> VQModel:
    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(width, width, width),
        layers_per_block=1,
        latent_channels=4,
        num_vq_embeddings=16,
        norm_num_groups=4,
        **more,
    )


def _if_unet(channels: int, **more: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **({"sample_size": 16} | more),
        in_channels=channels,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        encoder_hid_dim=16,
        attention_head_dim=4,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        norm_num_groups=4,
    )


def _learnt() -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", thresholding=True, variance_type="learned_range")


def _steps(**more: object) -> DDIMScheduler:
    return DDIMScheduler(clip_sample=False, steps_offset=1, **more)


def _unchecked() -> dict[str, object]:
    return {"safety_checker": None, "feature_extractor": None, "watermarker": None, "requires_safety_checker": False}


def _few(folder: Path, kind: type) -> Path:
    torch.manual_seed(0)
    return _of_stable_diffusion(folder, kind, tiny.text_unet(time_cond_proj_dim=8), LCMScheduler(steps_offset=1))


def _of_stable_diffusion(folder: Path, kind: type, unet: UNet2DConditionModel, scheduler: object) -> Path:
    small = StableDiffusionPipeline.from_pretrained(tiny.stable_diffusion(folder / "plain"))
    parts = small.components | {"unet": unet, "scheduler": scheduler}
    return _saved(kind(**parts, requires_safety_checker=False), folder / "model")


def _prior() -> dict[str, object]:
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16,
        image_size=32,
        projection_dim=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        patch_size=16,
    )
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, embedding_dim=16, num_embeddings=16, num_layers=1
    )
    torch.nn.init.ones_(prior.clip_std)  # it starts at zero, where every text is alike
    return {
        "prior": prior,
        "image_encoder": CLIPVisionModelWithProjection(vision),
        "text_encoder": tiny.clip(),
        "tokenizer": tiny.tokenizer(),
        "scheduler": UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0),
        "image_processor": CLIPImageProcessor(),
    }


def _decoder() -> dict[str, object]:
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=SIDE // 4,
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        encoder_hid_dim_type="image_proj",
        encoder_hid_dim=16,
        cross_attention_dim=16,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type=None,
    )
    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=True)
    return {"unet": unet, "scheduler": scheduler, "movq": _quantised(32, norm_type="spatial")}
