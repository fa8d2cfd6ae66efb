"""Which prompt each cell hears in cross-attention: masks and weights, for one size of map."""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones.prompts import Regional
from toolkit.backbones.unet.conditioning import POSITIVE, Conditioning
from toolkit.backbones.unet.rows import Batch, Size
from toolkit.backbones.unet.steering import region_weights
from toolkit.layout.areas import Area
from toolkit.layout.masks import shares


@dataclass(frozen=True)
class PromptsOfCells:
    """Which prompt each cell attends to, as `CrossInputs` has it."""

    mask: Tensor | None
    depth: int
    weights: Tensor | None


def prompts_of_cells(batch: Batch, size: Size) -> PromptsOfCells:
    """Each cell's own region's prompt, the canvas's outside the regions, with the words' biases.

    A cell of which several have a share, regions or the canvas, hears each one's prompt.
    """
    regional, device = batch.regional, batch.base.device
    owned = [shares_of(batch, layout, size) for layout in batch.layouts]
    if not (regional.injection and any(len(own) > 1 for own in owned)):
        return PromptsOfCells(None, 1, None)
    depth = max(int((own > 0).sum(dim=0).max()) for own in owned)
    places = max(layout.window * (1 + len(layout.regions)) for layout in batch.layouts)
    biased = bool(regional.word_bias or regional.subject_bias)
    added, weights = [], []
    for layout, own in zip(batch.layouts, owned, strict=True):
        chosen = [chosen_of(own, number) for number in range(depth)]
        prompts = torch.cat([_or_canvas(one) for one in chosen], dim=1)
        visible = prompts.T.repeat_interleave(layout.window, dim=1)
        # Fused attention wants rows of a mask to begin at multiples of 16 values.
        scores = torch.full((1, 1, len(visible), -(-places // 16) * 16), -torch.inf)
        scores[0, 0, :, : visible.shape[1]].masked_fill_(visible, 0)
        sides = scores.repeat(len(batch.sides), 1, 1, 1) if biased else scores
        if biased and POSITIVE in batch.sides:
            _add_biases(
                sides[batch.sides.index(POSITIVE), 0], layout, regional, bool(own[1:].any())
            )
        added.append(sides.to(device, batch.base.dtype)[..., :places])
        weight = torch.stack([(own * one).sum(dim=0) for one in chosen])
        weights.append(weight[None, :, :, None].to(device, batch.base.dtype))
    return PromptsOfCells(
        batch.over_rows(added), depth, batch.over_rows(weights) if depth > 1 else None
    )


def _add_biases(scores: Tensor, layout: Conditioning, regional: Regional, has_boxes: bool) -> None:
    """Add the biases of some words to (depth * cells, places) scores, in place."""
    if has_boxes:
        scores[:, list(layout.subjects)] += regional.subject_bias
    for number, region in enumerate(layout.regions, 1):
        places = [number * layout.window + place for place in region.places]
        scores[:, places] += regional.word_bias


def word_weights(batch: Batch, size: Size) -> Tensor | None:
    """(rows, 1, cells, window): of the words that layout guidance draws to regions, by cell.

    0 of all other words, and on the negative side. None where nothing is steered.
    """
    weighed = batch.regional.steering
    if weighed is None or POSITIVE not in batch.sides:
        return None
    parts = []
    for one in batch.layouts:
        canvas = (one.layout.height, one.layout.width)
        weights = torch.zeros(len(batch.sides), 1, size[0] * size[1], one.window)
        positive = weights[batch.sides.index(POSITIVE), 0]
        for steered in one.steered:
            own = _steered_weights(steered.area, canvas, size, weighed)
            positive[:, list(steered.places)] = own.flatten()[:, None]
        parts.append(weights)
    return batch.over_rows(parts).to(batch.base.device)


def _steered_weights(area: Area, canvas: Size, size: Size, weighed: tuple[float, float]) -> Tensor:
    """(h, w): as `region_weights`, of what a tile shows."""
    if area.tile is None:
        return region_weights(area.bounds, canvas, size, *weighed)
    width, height = area.tile.canvas
    whole = region_weights(area.bounds, (height, width), area.tile.of_canvas(*size), *weighed)
    return whole[area.tile.within(*size)]


def shares_of(batch: Batch, layout: Conditioning, size: Size) -> Tensor:
    """(1 + regions, cells): how much of a cell is the canvas's, and each region's.

    Without injection all is the canvas's.
    """
    own = shares([one.area for one in layout.regions], *size).flatten(1)
    if not batch.regional.injection:
        own.zero_()[0] = 1
    return own


def chosen_of(own: Tensor, number: int) -> Tensor:
    """(owners, cells): for each cell the `number`th (from 0) of those that have a share of it."""
    sharing = own > 0
    return sharing & (sharing.cumsum(dim=0) == number + 1)


def _or_canvas(chosen: Tensor) -> Tensor:
    """`chosen`, with the canvas for the cells that have no such owner."""
    canvas = chosen[:1] | ~chosen.any(dim=0, keepdim=True)
    return torch.cat([canvas, chosen[1:]])
