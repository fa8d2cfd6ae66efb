"""Models of each family's full structure, a few channels wide, with random weights."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from toolkit.backbones import Base
from toolkit.backbones.low_rank import LowRank
from toolkit.concept import Concept

TOKENIZER = Path(__file__).parent.parent / "reference" / "model" / "tokenizer"
NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def write_xl(folder: Path, **scheduler: Any) -> Path:
    """A Stable Diffusion XL: depths 1, 2, 10; two text encoders; 11 transformers of 70 blocks."""
    torch.manual_seed(1)
    second = text_encoder(CLIPTextModelWithProjection, 24, hidden_act="gelu", projection_dim=20)
    StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(CLIPTextModel, 16, hidden_act="quick_gelu"),
        text_encoder_2=second,
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER),
        tokenizer_2=CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="!"),
        unet=lively(
            UNet2DConditionModel(
                sample_size=32,
                block_out_channels=(8, 16, 16),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2, 10),
                attention_head_dim=(1, 2, 2),  # diffusers' name for the number of heads
                norm_num_groups=4,
                cross_attention_dim=16 + 24,
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=20 + 6 * 8,
            ),
            1.5,
        ),
        scheduler=EulerDiscreteScheduler(**{**NOISE, "timestep_spacing": "leading"} | scheduler),
    ).save_pretrained(folder)
    return folder


def write_sd2(folder: Path, **scheduler: Any) -> Path:
    """A Stable Diffusion 2.x, which predicts velocity unless `scheduler` says otherwise."""
    torch.manual_seed(2)
    StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(CLIPTextModel, 24, hidden_act="gelu"),
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="!"),
        unet=lively(
            UNet2DConditionModel(
                sample_size=32,
                block_out_channels=(8, 16, 16, 16),
                attention_head_dim=(1, 2, 2, 2),
                norm_num_groups=4,
                cross_attention_dim=24,
                use_linear_projection=True,
            ),
            1.5,
        ),
        scheduler=DDIMScheduler(
            **{**NOISE, "clip_sample": False, "prediction_type": "v_prediction"} | scheduler
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def text_encoder(kind: Any, width: int, **config: Any) -> Any:
    """A text encoder of three layers for the tiny vocabulary."""
    return lively(
        kind(
            CLIPTextConfig(
                vocab_size=514,
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=3,
                num_attention_heads=2,
                bos_token_id=512,
                eos_token_id=513,
                **config,
            )
        )
    )


def autoencoder() -> AutoencoderKL:
    """Of 8 x 8 pixels for a latent cell."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=64,
        force_upcast=True,
        scaling_factor=0.13025,
    )


def lively(module: nn.Module, factor: float = 3) -> nn.Module:
    """Attention that is stronger than a fresh network's, so that prompts make a difference."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 2 and ("attn" in name or "embedding" in name):
                parameter.mul_(factor)
    return module.eval()


def random_concept(base: Base, name: str, seed: int, rank: int = 2, size: float = 0.1) -> Concept:
    """An ED-LoRA of two tokens that changes every attention map of every network of `base`."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return size * torch.randn(*shape, generator=generator)

    changes = {
        part: {
            path: LowRank(drawn(rank, columns), drawn(rows, rank))
            for path, (rows, columns) in base.map_shapes(part).items()
            if ".attn1." in path or ".attn2." in path or ".self_attn." in path
        }
        for part in base.parts
    }
    embeddings = {
        part: drawn(2, layers, width) for part, (layers, width) in base.embedding_shapes.items()
    }
    tokens = (f"<{name}1>", f"<{name}2>")
    nothing = Concept(name, torch.zeros(0, 0, 0), (), {}, {}, class_word=name)
    return nothing.with_tokens(tokens, embeddings).with_changes(changes)
