"""Where a judge draws the line between there and not there, and how often that line is wrong."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.evaluation.judges import Judge
from toolkit.evaluation.pixels import crop
from toolkit.evaluation.references import Reference
from toolkit.evaluation.scores import (
    image_similarity,
    is_confused,
    placement,
    threshold_above,
    windows,
)
from toolkit.layout.layout import Box
from toolkit.layout.pixels import PixelBox


@dataclass(frozen=True)
class Calibration:
    """A judge's thresholds, and its error rates on crops whose answer is known.

    thresholds: by concept, the evidence above which it counts as there; none without masks.
    missed: share of real subjects called vanished.
    filled: share of empty crops, and of other subjects, called not vanished.
    mistaken: share of real subjects called confused with another concept.
    overlooked: share of subjects put in another concept's box and not called confused.
    placed, misplaced: mean placement of real subjects in their own box, and in a box beside them.
    """

    judge: str
    thresholds: Mapping[str, float]
    missed: float
    filled: float
    mistaken: float
    overlooked: float
    placed: float
    misplaced: float


@dataclass(frozen=True)
class Portraits:
    """One concept to one judge.

    references: (m, dim) of its whole images. portraits: (m, dim) of its subjects cut out of them as
    the base could draw them. empties: (k, dim) of places beside its subjects, as drawn.
    """

    references: Tensor
    portraits: Tensor
    empties: Tensor

    def evidence(self, images: Tensor) -> Tensor:
        """(n,): how much each of (n, dim) looks like the subject."""
        return image_similarity(images, self.portraits)

    def evidence_of_own(self) -> Tensor:
        """(m,): the same of each portrait, by the other portraits."""
        return torch.stack(
            [
                image_similarity(
                    self.portraits[[i]], torch.cat([self.portraits[:i], self.portraits[i + 1 :]])
                )[0]
                for i in range(len(self.portraits))
            ]
        )


def embed_references(
    judge: Judge,
    references: Mapping[str, Sequence[Reference]],
    drawn: Mapping[str, Sequence[Reference]],
) -> dict[str, Portraits]:
    """What the judge sees of every concept; portraits and empties are of the images as drawn."""
    seen = {}
    for name, images in drawn.items():
        empties = [image.empty for image in images]
        shown = [empty for empty in empties if empty is not None]
        whole = judge.images([image.image for image in references[name]])
        seen[name] = Portraits(
            whole,
            judge.images([image.portrait for image in images]),
            judge.images(shown) if shown else whole[:0],
        )
    return seen


def calibrate(
    judge: Judge,
    references: Mapping[str, Sequence[Reference]],
    seen: Mapping[str, Portraits],
) -> Calibration:
    """Fit thresholds on every other wrong crop and count errors on the rest.

    Wrong for a concept are places beside subjects, and the subjects of other concepts. Without
    masks, or with fewer than 4 images, a concept has no threshold, and its regions are not called
    vanished or not.
    """
    empties = torch.cat([portraits.empties for portraits in seen.values()])
    # (of, by): how much each subject of one concept looks like the other, or like its own others
    likeness = {
        (of, by): judging.evidence(shown.portraits) if of != by else judging.evidence_of_own()
        for of, shown in seen.items()
        for by, judging in seen.items()
    }
    thresholds: dict[str, float] = {}
    missed: list[Tensor] = []
    filled: list[Tensor] = []
    mistaken: list[float] = []
    overlooked: list[float] = []
    for name, own in seen.items():
        if len(own.portraits) < 4 or len(empties) < 4 or _without_masks(references[name]):
            continue
        others = [other for other in seen if other != name]
        present, absent = likeness[name, name], own.evidence(empties)
        strangers = [likeness[other, name] for other in others]
        threshold = threshold_above(torch.cat([part[::2] for part in (absent, *strangers)]))
        thresholds[name] = threshold
        missed.append(present <= threshold)
        filled.append(torch.cat([part[1::2] for part in (absent, *strangers)]) > threshold)
        for index, evidence in enumerate(present.tolist()):
            rivals = [float(likeness[name, other][index]) for other in others]
            mistaken.append(is_confused(evidence, rivals))
        for other in others:
            there = likeness[other, other].tolist()
            for stranger, itself in zip(likeness[other, name].tolist(), there, strict=True):
                overlooked.append(not is_confused(stranger, [itself]))
    placed, misplaced = _placements(judge, references, seen)
    return Calibration(
        judge.name,
        thresholds,
        missed=_share(missed),
        filled=_share(filled),
        mistaken=_mean(mistaken),
        overlooked=_mean(overlooked),
        placed=placed,
        misplaced=misplaced,
    )


def _placements(
    judge: Judge,
    references: Mapping[str, Sequence[Reference]],
    seen: Mapping[str, Portraits],
) -> tuple[float, float]:
    """Mean placement with the mask's box, and with a box of its size in the farthest corner."""
    right, wrong = [], []
    for name, images in references.items():
        for image in images:
            if image.subject is None:
                continue
            box = _fractions(image.subject, image.image.size)
            candidates = windows(box, [])
            crops = [crop(image.image, window) for window in candidates]
            evidence = seen[name].evidence(judge.images(crops))
            right.append(placement(evidence, candidates, box))
            wrong.append(placement(evidence, candidates, _farthest(box)))
    return _mean(right), _mean(wrong)


def _fractions(box: PixelBox, size: tuple[int, int]) -> Box:
    return box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]


def _farthest(box: Box) -> Box:
    """A box of the same size in the corner that is farthest from it."""
    width, height = box[2] - box[0], box[3] - box[1]
    x = 0.0 if box[0] + box[2] > 1 else 1 - width
    y = 0.0 if box[1] + box[3] > 1 else 1 - height
    return x, y, x + width, y + height


def _without_masks(images: Sequence[Reference]) -> bool:
    return all(image.subject is None for image in images)


def _share(flags: list[Tensor]) -> float:
    return float(torch.cat(flags).float().mean()) if flags else math.nan


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
