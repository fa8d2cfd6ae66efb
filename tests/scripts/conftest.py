"""Make the programs of scripts/ importable; a painter that needs no art."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from base.art import World, load_world
from base.scenes import Painter


class PlainPainter(Painter):
    """A painter whose art is one flat colour for each name and style."""

    def __init__(self, world: World) -> None:
        self.world, self.names, self.leaning = world, list(world.names), False
        self.art = {
            pair: Image.new("RGBA", (64, 64), (index, 0, 0, 255))
            for index, pair in enumerate(
                (name, style) for name in world.names for style in world.styles_of(name)
            )
        }
        self.place_art = {}

    def _background(self, rng: np.random.Generator, kind: object) -> tuple[Image.Image, str]:
        return Image.new("RGB", (64, 64), (0, 0, 255)), "on a blue background"


@pytest.fixture
def tiny_unet() -> UNet2DConditionModel:
    """Stable Diffusion's wiring, two levels of 8 channels; the same weights each time."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        layers_per_block=1,
    )


@pytest.fixture(scope="session")
def painter() -> PlainPainter:
    return PlainPainter(load_world())
