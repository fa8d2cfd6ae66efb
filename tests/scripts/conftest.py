"""Make the programs of scripts/ importable; a painter that needs no art."""

import sys
from pathlib import Path

import numpy as np
import pytest
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


@pytest.fixture(scope="session")
def painter() -> PlainPainter:
    return PlainPainter(load_world())
