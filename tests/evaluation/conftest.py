"""A judge that sees colours only, so that the right answer of every score is known; and a folder
in which whole evaluations run on the tiny base."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluations import Work
from PIL import Image
from torch import Tensor

from toolkit.concept import Concept
from toolkit.evaluation.references import Reference

COLOURS = {"dog": "red", "cat": "lime", "fox": "blue"}


class ColourJudge:
    """Embeds a picture as its mean colour above black, and a text as the colour it names."""

    name = "colour"
    tells_presence = True
    tells_collapse = False

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        means = np.stack([np.asarray(p.convert("RGB")).mean(axis=(0, 1)) for p in pictures])
        return F.normalize(torch.tensor(means, dtype=torch.float32) + 25.0, dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor | None:
        named = [
            next((colour for word, colour in COLOURS.items() if word in text), "black")
            for text in texts
        ]
        return self.images([Image.new("RGB", (4, 4), colour) for colour in named])


def drawn(colour: str, box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """A black picture with a coloured rectangle."""
    picture = Image.new("RGB", size, "black")
    picture.paste(Image.new("RGB", (box[2] - box[0], box[3] - box[1]), colour), box[:2])
    return picture


@pytest.fixture
def judge() -> ColourJudge:
    return ColourJudge()


@pytest.fixture
def references() -> dict[str, tuple[Reference, ...]]:
    """Eight images of each concept: a rectangle of its colour at changing places."""
    boxes = [(4 + 4 * i, 8, 28 + 4 * i, 40) for i in range(8)]
    return {
        name: tuple(Reference(drawn(colour, box, (64, 64)), box) for box in boxes)
        for name, colour in COLOURS.items()
    }


@pytest.fixture
def work(tmp_path: Path, tiny_base_folder: Path, concepts: dict[str, Concept]) -> Work:
    return Work(tmp_path, tiny_base_folder, concepts)
