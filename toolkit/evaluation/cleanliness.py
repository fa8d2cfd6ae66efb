"""Whether a picture is clean: its regions beside their concepts drawn alone, its rest beside the
empty scene.

A judge of likeness does not see noise, mosaics, melting and specks. This one looks at textures
(`texture.py`), against two groups of pictures that the same base makes without any composing: the
region's prompt by its concept alone, and by the base with the class word.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from toolkit.evaluation.pixels import crop
from toolkit.evaluation.spoil import WAYS, spoilt
from toolkit.evaluation.texture import Clean, blurred, fit, statistics
from toolkit.images.tensors import pixels_of
from toolkit.layout.areas import bounds_of
from toolkit.layout.layout import Layout, Region

log = logging.getLogger(__name__)

Prompt = tuple[str, str]
"""A concept, and what a region asks of it."""

_PASSING = 0.05
"""The share of single pictures beyond their line."""

_ROOM = 2.0
"""A region is spoilt beyond this many times the line of single pictures.

It is smaller than they are and stands on a larger ground. On the embedded base the regions of
compositions that are clean to the eye lie at 1.1 to 2.5, where the line of single pictures is 1.2;
those torn apart by 5 to 25 times the published step at 3.2 to 5.3, and empty boxes at night at 20.
"""

_DIFFERS = 0.1
"""A pixel differs when a colour does by this much of 1, after a blur of a pixel."""


@dataclass(frozen=True)
class CleanScores:
    """What the judge says of one region.

    strangeness: deviations from the nearer of its two groups. spoilt: whether that is more than
    twice what all but one in twenty of single pictures have. outside: `changed_outside` of the
    whole picture.
    """

    concept: str
    strangeness: float
    spoilt: bool
    outside: float | None


@dataclass(frozen=True)
class CleanJudge:
    """Fitted to single pictures.

    groups: for each region prompt, which of the clean groups it is held against.
    """

    clean: Clean
    groups: Mapping[Prompt, tuple[int, ...]]
    threshold: float

    def strangeness(self, picture: Image.Image, region: Region) -> float:
        """Deviations from the nearer of the region's groups."""
        own = statistics(picture)
        groups = self.groups[region.concept, region.prompt]
        return min(self.clean.distance(own, self.clean.means[group]) for group in groups)

    def scores(
        self, picture: Image.Image, layout: Layout, empty: Image.Image | None
    ) -> list[CleanScores]:
        """Scores of every region of a picture. empty: the same seed's picture of the scene."""
        outside = None if empty is None else changed_outside(picture, empty, layout)
        found = []
        for region in layout.regions:
            strangeness = self.strangeness(crop(picture, bounds_of(region)), region)
            found.append(
                CleanScores(region.concept, strangeness, strangeness > self.threshold, outside)
            )
        return found


def fit_judge(pictures: Mapping[Prompt, Sequence[Sequence[Image.Image]]]) -> CleanJudge:
    """A judge of clean pictures, and in the log how often it is wrong.

    pictures: for each region prompt its groups of single pictures, of 2 or more.
    """
    singles = [group for own in pictures.values() for group in own]
    measured = [torch.stack([statistics(picture) for picture in group]) for group in singles]
    groups: dict[Prompt, tuple[int, ...]] = {}
    for key, own in pictures.items():
        first = sum(map(len, groups.values()))
        groups[key] = tuple(range(first, first + len(own)))
    beside = [own for own in groups.values() for _ in own]
    clean = fit(measured)
    usual = left_out(clean, measured, beside, measured)
    threshold = _ROOM * float(usual[::2].quantile(1 - _PASSING))
    wrong = float((usual[1::2] > threshold).float().mean())
    found = []
    for way in WAYS:
        shown = [
            torch.stack([statistics(spoilt(picture, way, seed)) for seed, picture in enumerate(g)])
            for g in singles
        ]
        strange = left_out(clean, measured, beside, shown) > threshold
        found.append(f"{way} {float(strange.float().mean()):.0%}")
    log.info(
        "judge clean on single pictures: called spoilt as they are %.1f%%, spoilt on purpose: %s",
        100 * wrong,
        ", ".join(found),
    )
    return CleanJudge(clean, groups, threshold)


def left_out(
    clean: Clean,
    measured: Sequence[Tensor],
    beside: Sequence[tuple[int, ...]],
    shown: Sequence[Tensor],
) -> Tensor:
    """(pictures,) the strangeness of each picture shown, without it in its own group's mean.

    measured, shown: (pictures, 11) for each group, of the pictures that were fitted to and of what
    is shown in their place. beside: for each group, all groups of its prompt.
    """
    found = []
    for group, (own, replaced) in enumerate(zip(measured, shown, strict=True)):
        for picture, statistic in zip(own, replaced, strict=True):
            mean = (own.sum(dim=0) - picture) / (len(own) - 1)
            means = [mean if other == group else clean.means[other] for other in beside[group]]
            found.append(min(clean.distance(statistic, mean) for mean in means))
    return torch.tensor(found)


def changed_outside(picture: Image.Image, empty: Image.Image, layout: Layout) -> float | None:
    """The share outside all regions' bounding boxes that differs from the empty scene, if any is.

    Both of one size and seed.
    """
    shown, expected = (blurred(pixels_of(image), 1.0) for image in (picture, empty))
    differs = (shown - expected).abs().amax(dim=0) > _DIFFERS
    outside = torch.ones_like(differs)
    for x0, y0, x1, y1 in map(bounds_of, layout.regions):
        height, width = outside.shape
        outside[int(y0 * height) : round(y1 * height), int(x0 * width) : round(x1 * width)] = False
    return float(differs[outside].float().mean()) if outside.any() else None
