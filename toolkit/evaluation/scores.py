"""The scores of one region, from embeddings of unit length."""

import torch
from torch import Tensor

from toolkit.layout.layout import Box


def image_similarity(images: Tensor, references: Tensor) -> Tensor:
    """How alike pictures are to a concept: the mean over its references of max(cosine, 0).

    images: (n, dim), references: (m, dim), both of unit length. Returns (n,) in [0, 1].
    The published code's image alignment, which is Custom Diffusion's.
    """
    return (images @ references.T).clamp(min=0).mean(dim=1)


def text_similarity(images: Tensor, texts: Tensor) -> Tensor:
    """CLIPScore: 2.5 max(cosine, 0) of each picture and its own text.

    images, texts: (n, dim) of unit length. Returns (n,) in [0, 2.5]. Hessel et al. 2021.
    """
    return 2.5 * (images * texts).sum(dim=1).clamp(min=0)


COLLAPSE_LINES = (0.4, 0.5, 0.6)
"""Below which a subject counts as collapsed: arXiv 2603.26078 gives the rate for each."""


def whole_similarity(pictures: Tensor, references: Tensor) -> Tensor:
    """How alike whole pictures are to a subject: the mean cosine to its references.

    pictures: (n, dim), references: (m, dim), both of unit length. Returns (n,) in [-1, 1]. The mean
    over a picture's subjects is arXiv 2603.26078's DINOv2 score, which has one reference of each.
    """
    return (pictures @ references.T).mean(dim=1)


def has_collapsed(similarity: float) -> tuple[bool, ...]:
    """For each of COLLAPSE_LINES, whether a subject of this `whole_similarity` counts as collapsed.

    The mean over a picture's subjects is its Subject Collapse Rate (arXiv 2603.26078, sec. 4.3).
    """
    return tuple(similarity < line for line in COLLAPSE_LINES)


def is_confused(own: float, others: list[float]) -> bool:
    """Whether a region looks more like another concept of its layout than like its own."""
    return any(other > own for other in others)


def windows(box: Box, excluded: list[Box], steps_per_box: int = 4) -> list[Box]:
    """`box` itself first, then boxes of its size all over the canvas, a quarter of it apart.

    Those whose middle lies in one of `excluded` are left out.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    found = [box]
    for y in _starts(height, steps_per_box):
        for x in _starts(width, steps_per_box):
            middle = (x + width / 2, y + height / 2)
            if not any(a <= middle[0] <= c and b <= middle[1] <= d for a, b, c, d in excluded):
                found.append((x, y, min(x + width, 1.0), min(y + height, 1.0)))
    return found


def overlap(window: Box, box: Box) -> float:
    """The share of `window` that lies in `box`."""
    width = max(0.0, min(window[2], box[2]) - max(window[0], box[0]))
    height = max(0.0, min(window[3], box[3]) - max(window[1], box[1]))
    return width * height / ((window[2] - window[0]) * (window[3] - window[1]))


def placement(evidence: Tensor, candidates: list[Box], box: Box) -> float:
    """How much of the subject lies in its box: the share of the likeliest window that is in it.

    evidence: (n,), how much each of the candidates looks like the concept. Of equal ones the
    first counts, so `windows` puts the box in front.
    """
    best = int(torch.argmax(evidence))
    return overlap(candidates[best], box)


def threshold_above(absent: Tensor, passing: float = 0.05) -> float:
    """The evidence that only a share `passing` of what does not hold the subject exceeds.

    absent: (n,), evidence of crops without it. A made subject is softer than a real one, so the
    line is drawn just above what is not the subject, and not halfway to what is.
    """
    return float(torch.quantile(absent, 1 - passing))


def _starts(size: float, steps_per_box: int) -> list[float]:
    """Where windows of `size` begin along a side of length 1, from end to end."""
    room = 1.0 - size
    count = max(1, round(room / size * steps_per_box))
    return [room * index / count for index in range(count + 1)] if room > 0 else [0.0]
