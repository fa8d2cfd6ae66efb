"""How much a picture shows of the boxes it was made with: what changes across their borders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.layout.layout import Box

_STRIP = 4
"""Pixels on each side of a border that are compared."""


@dataclass(frozen=True)
class Border:
    """What changes across the borders of a picture's boxes, where no subject is.

    colour: how far the mean colours of the strips on both sides are apart, of 1. edge: how much
    larger the step at the border itself is than the steps within the strips, of 1. Both are means
    over all `pixels` along the borders.
    """

    colour: float
    edge: float
    pixels: int


def border_of(picture: Tensor, boxes: Sequence[Box], subjects: Tensor) -> Border | None:
    """What changes across the borders of `boxes`; None where subjects or others hold all of them.

    picture: (3, height, width) in 0..1. subjects: (height, width), true where one is.
    A border on the canvas's own, and one that lies in another box, is not looked at.
    """
    height, width = subjects.shape
    found = []
    for number, box in enumerate(boxes):
        taken = subjects.clone()
        for x0, y0, x1, y1 in (other for n, other in enumerate(boxes) if n != number):
            taken[int(y0 * height) : round(y1 * height), int(x0 * width) : round(x1 * width)] = True
        for colours, free in _across(picture, taken, box):
            steps = (colours[:, 1:] - colours[:, :-1]).abs().mean(dim=0)
            middle = steps[_STRIP - 1]
            beside = (steps.sum(dim=0) - middle) / (len(steps) - 1)
            inside, outside = colours[:, :_STRIP].mean(dim=1), colours[:, _STRIP:].mean(dim=1)
            apart = (inside - outside).abs().mean(dim=0)
            found.append(torch.stack([apart, middle - beside])[:, free])
    measured = torch.cat(found, dim=1) if found else torch.empty(2, 0)
    if not measured.shape[1]:
        return None
    colour, edge = measured.mean(dim=1).tolist()
    return Border(colour, edge, measured.shape[1])


def _across(picture: Tensor, taken: Tensor, box: Box) -> Iterator[tuple[Tensor, Tensor]]:
    """For each side of a box (3, 2 strips, pixels along it) colours, and which pixels are free."""
    height, width = taken.shape
    sides = (
        (picture, taken, box[0] * width, box[1] * height, box[3] * height),
        (picture, taken, box[2] * width, box[1] * height, box[3] * height),
        (picture.mT, taken.T, box[1] * height, box[0] * width, box[2] * width),
        (picture.mT, taken.T, box[3] * height, box[0] * width, box[2] * width),
    )
    for colours, blocked, at, start, stop in sides:
        across = slice(round(at) - _STRIP, round(at) + _STRIP)
        if across.start < 0 or across.stop > blocked.shape[1]:
            continue
        along = slice(round(start), round(stop))
        yield colours[:, along, across].transpose(1, 2), ~blocked[along, across].any(dim=1)
