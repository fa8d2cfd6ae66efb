"""Layout guidance: words of the canvas's prompt drawn to regions (Cones 2, arXiv 2305.19327)."""

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.layout.areas import Area
from toolkit.layout.layout import Box
from toolkit.layout.masks import area_masks


def region_weights(
    box: Box, canvas: tuple[int, int], size: tuple[int, int], inside: float, outside: float
) -> Tensor:
    """(h, w): a subject's weight in each cell of a map of `size`, resized from the canvas's pixels.

    canvas: height and width in pixels. Corners are aligned, so a cell that touches the outside is
    mostly outside.
    """
    mask = area_masks([Area(box)], *canvas)
    pixels = torch.where(mask > 0, inside, outside)
    resized = functional.interpolate(pixels[None], size, mode="bilinear", align_corners=True)
    return resized[0, 0]


def steered_probabilities(
    scores: Tensor, words: Tensor, strength: float | Tensor, scale: float
) -> Tensor:
    """softmax((S + strength std(S) M) scale), in float32.

    scores: S, (rows, heads, cells, places), queries times keys, unscaled. words: M, broadcast over
    the same, 0 where a place is not steered. std is unbiased, over all scores of a row.
    """
    scores = scores.float()
    spread = scores.std(dim=(1, 2, 3), keepdim=True)
    return ((scores + strength * spread * words) * scale).softmax(dim=-1)
