"""The tiny Stable Diffusion shaped model of the numeric cases, and its concepts."""

from pathlib import Path

import pytest

from toolkit.base import Base, load_base
from toolkit.concept import Concept
from toolkit.concept.formats.mix_of_show import load_mix_of_show

REFERENCE = Path(__file__).parent.parent / "reference"


@pytest.fixture(scope="session")
def tiny_base() -> Base:
    return load_base(REFERENCE / "model", "reference", guidance_downscale=4)


@pytest.fixture(scope="session")
def concepts() -> dict[str, Concept]:
    return {
        name: load_mix_of_show(REFERENCE / "concepts" / f"{name}.pth", name, class_word=name)
        for name in ("dog", "cat", "fox", "rock")
    }
