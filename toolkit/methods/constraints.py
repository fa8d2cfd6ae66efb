"""The constraints of LoRA-Composer: attention maps and boxes in, losses out.

Where the released sampler differs from the paper, both formulas are here; `published` and `paper`
in the names say which. All regions of all pictures are computed at once: `...` are their
dimensions, h x w is the guidance grid. "The box" of the paper is a mask M here, which may have any
shape (`places.py`).
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.layout.cells import Cells


@dataclass(frozen=True)
class Top:
    """How many of the largest values count: (...), and the most of them as a number."""

    counts: Tensor
    most: int


def smooth(attention: Tensor) -> Tensor:
    """(..., h, w) maps blurred with a 3 x 3 kernel, exp(-((i - 1) / (2 * 0.5))^2) along each axis.

    Published; the paper does not mention it. Borders are reflected.
    """
    maps = attention.flatten(0, -3)[:, None]
    padded = functional.pad(maps, (1, 1, 1, 1), mode="reflect")
    return functional.conv2d(padded, _kernel(maps.device, maps.dtype)).view_as(attention)


@lru_cache(maxsize=8)
def _kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    offsets = torch.arange(3, device=device, dtype=dtype) - 1
    line = torch.exp(-(offsets**2))
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum())[None, None]


def gaussian_weight(height: int, width: int) -> Tensor:
    """(height, width): G of eq. 4, a Gaussian of sigma 1 over -1..1 each way of the box.

    Of another shape than a box: of its bounding box, and cut to the shape by M of eq. 4.

    Its peak is 1, whether or not a cell lies at the very centre.
    """
    y = torch.linspace(-1, 1, height)
    x = torch.linspace(-1, 1, width)
    weight = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)
    return weight / weight.max()


def top_count(cells: Cells, share: float) -> int:
    """S (and P): floor of `share` of the cells that the region holds, at least 1."""
    return max(int(share * len(cells)), 1)


def enhancement_loss(attention: Tensor, mask: Tensor, weight: Tensor, top: Top) -> Tensor:
    """How far each token is from holding its box: 1 - mean of the top S of A * M * G (eq. 4).

    attention: (..., tokens, h, w) cross-attention probabilities of one concept's tokens.
    mask, weight: (..., h, w), M, which is 1 in the region, and G in it. top: S.
    Returns (..., tokens), each in 0..1.
    """
    inside = torch.where(mask[..., None, :, :] > 0, attention * weight[..., None, :, :], -1.0)
    return 1 - _mean_of_top(inside.flatten(-2), top.counts[..., None], top.most)


def fill_loss_published(attention: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How far each token is from reaching every column and every row of its box.

    A is masked first; the distance is averaged over the whole axis. Of a mask of another shape than
    a box, its projections are the rows and columns in which it holds a cell: two islands beside
    each other leave the columns between them alone.
    attention: (..., tokens, h, w). mask: (..., h, w), 1 in the region.
    Returns the distances along x and along y, each (..., tokens) in 0..1.
    """
    mask = mask[..., None, :, :]
    inside = attention * mask
    columns = (mask.amax(dim=-2) - inside.amax(dim=-2)).abs().mean(dim=-1)
    rows = (mask.amax(dim=-1) - inside.amax(dim=-1)).abs().mean(dim=-1)
    return columns, rows


def fill_loss_paper(attention: Tensor, mask: Tensor) -> Tensor:
    """L_fill (eqs. 5 to 7): maxima over the whole map, cut to the box, one mean over both axes.

    Of another shape than a box: over the rows and columns in which it holds a cell.
    attention: (..., tokens, h, w). mask: (..., h, w), 1 in the region.
    Returns (..., tokens), each in 0..1.
    """
    mask = mask[..., None, :, :]
    reached = torch.cat([attention.amax(dim=-2), attention.amax(dim=-1)], dim=-1)
    wanted = torch.cat([mask.amax(dim=-2), mask.amax(dim=-1)], dim=-1)
    return ((1 - reached) * wanted).sum(dim=-1) / wanted.sum(dim=-1).clamp(min=1)


def region_loss(self_attention: Tensor, leaks: Tensor, top: Top) -> Tensor:
    """Mean of the top P of the self-attention from inside the box to outside it (eq. 8).

    self_attention: (..., h * w queries, h * w keys) probabilities. leaks: of that shape, true where
    the query lies in the region and the key outside. top: P, and no more than there are leaks.
    Returns (...), each in 0..1; 0 for a region that fills the canvas.
    """
    leaking = torch.where(leaks, self_attention, -1.0)
    return _mean_of_top(leaking.flatten(-2), top.counts, top.most)


def _mean_of_top(values: Tensor, counts: Tensor, most: int) -> Tensor:
    """(...) the mean of the largest `counts` of (..., n); 0 where that is 0."""
    found = values.topk(most).values
    counted = torch.arange(most, device=values.device) < counts[..., None]
    return torch.where(counted, found, 0.0).sum(dim=-1) / counts.clamp(min=1)
