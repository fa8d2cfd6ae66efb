"""Stable Diffusion XL's structure with random weights, for programs that measure.

Nothing is downloaded: the tokenizer is the embedded base's, the rest is built in memory, where it
takes 7 GB in 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from sd15 import NOISE, TOKENIZER
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from toolkit.backbones import Base


def random_xl(device: str, dtype: torch.dtype) -> Base:
    """An untrained U-Net (2.6 G parameters) and two text encoders (123 M and 695 M)."""
    torch.manual_seed(0)
    makers: tuple[Callable[[], nn.Module], ...] = (
        lambda: CLIPTextModel(_text(768, 12, 12, "quick_gelu", 768)),
        lambda: CLIPTextModelWithProjection(_text(1280, 32, 20, "gelu", 1280)),
        lambda: UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),  # diffusers' name for the number of heads
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
    )
    with _made_in(dtype):
        first, second, unet = (make().to(device).eval().requires_grad_(False) for make in makers)
    return Base(
        name="random",
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER),
        text_encoder=first,
        unet=unet,
        vae=None,
        scheduler_config=NOISE,
        guidance_downscale=4,
        architecture="",
        weights="",
        tokenizer_2=CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="!"),
        text_encoder_2=second,
        zeros_for_no_negative=True,
    )


def _text(width: int, layers: int, heads: int, act: str, projected: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=act,
        projection_dim=projected,
        bos_token_id=49406,
        eos_token_id=49407,
    )


@contextmanager
def _made_in(dtype: torch.dtype) -> Iterator[None]:
    """Let modules be made in a type at once: in float32 first they would take twice the memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
