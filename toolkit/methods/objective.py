"""The constraints of one picture put together: maps of a guidance pass to one loss (eq. 9)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.layout.cells import Cells, cell_mask
from toolkit.methods import constraints
from toolkit.methods.method import Method, Preset


@dataclass(frozen=True)
class RegionTerms:
    """One region's constraints before weighting.

    enhancement, fill_x, fill_y: (tokens,). In the paper's preset L_fill is one mean over both axes
    and stands in fill_x; fill_y is 0. region: a scalar.
    """

    enhancement: Tensor
    fill_x: Tensor
    fill_y: Tensor
    region: Tensor


def region_terms(
    attention: Tensor, self_attention: Tensor | None, cells: Cells, method: Method
) -> RegionTerms:
    """The constraints of one region of one picture; what `method` switches off is 0.

    attention: (tokens, h, w) cross-attention probabilities of the region's tokens.
    self_attention: (h * w, h * w), needed where `region_loss` is on.
    """
    height, width = attention.shape[1:]
    mask = cell_mask(cells, height, width, attention.device)
    top = constraints.top_count(cells, method.top_share)
    paper = method.preset is Preset.PAPER
    if not paper:
        attention = constraints.smooth(attention)
    enhancement = fill_x = fill_y = attention.new_zeros(len(attention))
    region = attention.new_zeros(())
    if method.enhancement:
        weight = None
        if method.gaussian_weight:
            weight = constraints.gaussian_weight(cells.height, cells.width, attention.device)
        enhancement = constraints.enhancement_loss(attention, cells, weight, top)
    if method.fill_loss:
        if paper:
            fill_x = constraints.fill_loss_paper(attention, cells)
        else:
            fill_x, fill_y = constraints.fill_loss_published(attention, mask)
    if method.region_loss and self_attention is not None:
        region = constraints.region_loss(self_attention, mask, top)
    return RegionTerms(enhancement, fill_x, fill_y, region)


def total_loss(terms: Sequence[RegionTerms], method: Method) -> Tensor:
    """Eq. 9 over all regions: tokens averaged in the paper's preset, summed in the others."""
    ce_weight, fill_weight, region_weight = method.weights
    loss = torch.zeros(())
    for term in terms:
        fill = term.fill_x + term.fill_y
        if method.preset is Preset.PAPER:
            ce, fill = term.enhancement.mean(), fill.mean()
        else:
            ce, fill = term.enhancement.sum(), fill.sum()
        loss = loss.to(ce.device) + ce_weight * ce + fill_weight * fill
        loss = loss + region_weight * term.region
    return loss


def paced_losses(terms: Sequence[RegionTerms], method: Method) -> Tensor:
    """(regions,) each region's part of eq. 9 with `pace_per_region`; else (1,) the sum of all."""
    if method.constants.pace_per_region and terms:
        return torch.stack([total_loss([term], method) for term in terms])
    return total_loss(terms, method)[None]


def worst_first(losses: Tensor) -> Tensor:
    """(regions,) weights of mean 1 in proportion to the losses: the worst-off region's is largest.

    Attend-and-Excite (arXiv 2301.13826) descends the largest alone.
    """
    held = losses.detach()
    return held / held.mean().clamp(min=torch.finfo(held.dtype).tiny)
