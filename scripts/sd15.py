"""Stable Diffusion 1.5's structure with random weights, for programs that measure and count.

Nothing is downloaded: the tokenizer is the embedded base's, the rest is built in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from toolkit.backbones import Base, Part
from toolkit.backbones.unet.names import TEXT_PARTS
from toolkit.concept import Concept, LowRank
from toolkit.layout.layout import Layout, Region

TOKENIZER = Path(__file__).resolve().parent.parent / "toolkit" / "assets" / "mini" / "tokenizer"
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "steps_offset": 1,
}
GUIDANCE_SCALE = 7.5


@dataclass(frozen=True)
class Widths:
    """How wide the networks are; their blocks, layers and depth are always Stable Diffusion 1.5's.

    channels: of the U-Net's four levels. groups: of its norms. heads: of its attention.
    text, text_heads: of the text encoder.
    """

    channels: tuple[int, int, int, int] = (320, 640, 1280, 1280)
    groups: int = 32
    heads: int = 8
    text: int = 768
    text_heads: int = 12


FULL = Widths()
NARROW = Widths(channels=(8, 8, 8, 8), groups=4, heads=2, text=8, text_heads=2)


def random_base(device: str, dtype: torch.dtype, widths: Widths = FULL) -> Base:
    """An untrained U-Net (860 M parameters at full width) and text encoder (123 M)."""
    torch.manual_seed(0)
    text_config = CLIPTextConfig(
        hidden_size=widths.text,
        intermediate_size=4 * widths.text,
        num_hidden_layers=12,
        num_attention_heads=widths.text_heads,
        projection_dim=widths.text,
        bos_token_id=49406,
        eos_token_id=49407,
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=widths.text,
        block_out_channels=widths.channels,
        norm_num_groups=widths.groups,
        attention_head_dim=widths.heads,  # diffusers' name for the number of heads
    )
    modules = [
        module.to(device, dtype).eval().requires_grad_(False)
        for module in (CLIPTextModel(text_config), unet)
    ]
    return Base(
        name="random",
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER),
        text_encoder=modules[0],
        unet=modules[1],
        vae=None,
        scheduler_config=NOISE,
        guidance_downscale=4,
        architecture="",
        weights="",
    )


def random_concept(base: Base, name: str, rank: int = 4) -> Concept:
    """An ED-LoRA of the size that training makes: every attention map of every network."""
    changes = {
        part: {
            path: LowRank(0.02 * torch.randn(rank, columns), 0.02 * torch.randn(rows, rank))
            for path, (rows, columns) in base.map_shapes(part).items()
            if any(mark in path for mark in (".attn1.", ".attn2.", ".self_attn."))
        }
        for part in (Part.UNET, *TEXT_PARTS)
    }
    embeddings = {
        part: 0.02 * torch.randn(2, *shape) for part, shape in base.embedding_shapes.items()
    }
    nothing = Concept(name, torch.zeros(0, 0, 0), (), {}, {}, class_word=name)
    tokens = (f"<{name}1>", f"<{name}2>")
    return nothing.with_tokens(tokens, embeddings).with_changes(changes)


def layout_of(concepts: int, width: int, height: int, margin: float = 0.06) -> Layout:
    """Boxes side by side, in two rows from four concepts on, with some canvas above and below.

    margin: left and right of a box, as a share of its place; below 0, neighbours overlap.
    """
    rows = 1 if concepts < 4 else 2
    regions = []
    for row in range(rows):
        own = [i for i in range(concepts) if i * rows // concepts == row]
        y0, y1 = (row + 0.06) / rows, (row + 0.94) / rows
        for column, index in enumerate(own):
            x0 = max((column + margin) / len(own), 0.0)
            x1 = min((column + 1 - margin) / len(own), 1.0)
            regions.append(Region(f"c{index}", f"<c{index}>, sitting", (x0, y0, x1, y1)))
    return Layout("benchmark", "a picture", width, height, tuple(regions))


def plain_pipeline(base: Base, steps: int) -> DiffusionPipeline:
    """diffusers' own pipeline on the base's networks, with the base's scheduler; makes latents."""
    parts = {
        "vae": AutoencoderKL(block_out_channels=(8, 8, 8, 8), norm_num_groups=4),
        "text_encoder": base.text_encoder,
        "tokenizer": base.tokenizer,
        "unet": base.unet,
        "scheduler": base.scheduler(steps),
    }
    if base.text_encoder_2 is not None:
        second = {"text_encoder_2": base.text_encoder_2, "tokenizer_2": base.tokenizer_2}
        pipeline = StableDiffusionXLPipeline(**parts, **second)
    else:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
