"""A judge not trained on this world: which art a picture's ImageNet features are nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from toolkit.evaluation.imagenet import ImageNetJudge
from toolkit.evaluation.scores import image_similarity

from .scenes import Painter, portraits

PASTES = 6  # of each piece of art


class NearestArt:
    """Names pictures by the known art they are most like, in whichever style."""

    def __init__(self, painter: Painter) -> None:
        """Embed every (name, style) of the world, pasted on drawn backgrounds."""
        self.judge = ImageNetJudge()
        rng = np.random.default_rng(5)
        self.art = {
            pair: self.judge.images(portraits(painter, art, PASTES, rng))
            for pair, art in painter.art.items()
        }

    def name_all(self, pictures: Sequence[Image.Image]) -> list[str]:
        """The nearest name of each."""
        seen = self.judge.images(pictures)
        likeness = torch.stack([image_similarity(seen, art) for art in self.art.values()])
        pairs = list(self.art)
        return [pairs[int(best)][0] for best in likeness.argmax(dim=0)]
