"""The constraints put together: maps of a guidance pass to losses (eq. 9)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.methods import constraints
from toolkit.methods.lora_composer import Fill, LoraComposer
from toolkit.methods.places import Places


@dataclass(frozen=True)
class Terms:
    """The constraints before weighting; of (pictures, regions), or one region's.

    enhancement, fill_x, fill_y: (.., tokens). By the paper's equations L_fill is one mean over both
    axes and stands in fill_x; fill_y is 0. region: (..).
    """

    enhancement: Tensor
    fill_x: Tensor
    fill_y: Tensor
    region: Tensor


def terms_of(
    attention: Tensor, self_attention: Tensor | None, places: Places, method: LoraComposer
) -> Terms:
    """The constraints of every region; what `method` switches off is 0.

    attention: (pictures, regions, tokens, h, w) cross-attention probabilities of the tokens.
    self_attention: (pictures, h * w, h * w), needed where `region_loss` is on.
    """
    if method.smoothing:
        attention = constraints.smooth(attention)
    zero = attention.new_zeros(attention.shape[:3])
    enhancement = fill_x = fill_y = zero
    region = zero[..., 0]
    if method.enhancement:
        enhancement = constraints.enhancement_loss(
            attention, places.mask, places.weight, places.top
        )
    if method.fill_loss:
        if method.fill_formula is Fill.EQUATIONS:
            fill_x = constraints.fill_loss_paper(attention, places.mask)
        else:
            fill_x, fill_y = constraints.fill_loss_published(attention, places.mask)
    if method.region_loss and self_attention is not None and places.top_leaks.most:
        region = constraints.region_loss(self_attention[:, None], places.leaks, places.top_leaks)
    return Terms(enhancement, fill_x, fill_y, region)


def weighted(terms: Terms, has_token: Tensor, method: LoraComposer) -> dict[str, Tensor]:
    """Each constraint's part of eq. 9, (..) each: tokens summed, or their mean, times its weight.

    has_token: (.., tokens), 1 where there is a token.
    """

    def over_tokens(values: Tensor) -> Tensor:
        summed = (values * has_token).sum(dim=-1)
        return summed / has_token.sum(dim=-1).clamp(min=1) if method.mean_over_tokens else summed

    return {
        "enhancement": method.enhancement_weight * over_tokens(terms.enhancement),
        "fill": method.fill_weight * over_tokens(terms.fill_x + terms.fill_y),
        "region": method.region_weight * terms.region,
    }


def losses_of(terms: Terms, places: Places, method: LoraComposer) -> Tensor:
    """Eq. 9: (pictures, regions) its parts with `pace_per_region`; else (pictures, 1) their sum."""
    parts = weighted(terms, places.has_token, method)
    by_region = (parts["enhancement"] + parts["fill"] + parts["region"]) * places.present
    return by_region if method.pace_per_region else by_region.sum(dim=1, keepdim=True)


def worst_first(losses: Tensor, counts: Tensor) -> Tensor:
    """(pictures, regions) weights of mean 1 in proportion to a picture's losses.

    So the worst-off region's is the largest. Attend-and-Excite (arXiv 2301.13826) descends the
    largest alone. counts: (pictures, 1), over how many regions the mean is taken.
    """
    held = losses.detach()
    mean = held.sum(dim=1, keepdim=True) / counts
    return held / mean.clamp(min=torch.finfo(held.dtype).tiny)
