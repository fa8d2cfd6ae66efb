"""Which prompt each cell hears in cross-attention: masks and weights, for one size of map."""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones.prompts import Regional
from toolkit.backbones.unet.conditioning import POSITIVE, Conditioning
from toolkit.backbones.unet.rows import Batch, Size
from toolkit.backbones.unet.steering import region_weights
from toolkit.layout.masks import box_masks, mean_weights


@dataclass(frozen=True)
class PromptsOfCells:
    """Which prompt each cell attends to, as `CrossInputs` has it."""

    mask: Tensor | None
    depth: int
    weights: Tensor | None


def prompts_of_cells(batch: Batch, size: Size) -> PromptsOfCells:
    """Each cell's own region's prompt, the canvas's outside the boxes, with the biases of words."""
    regional, device = batch.regional, batch.base.device
    masks = [masks_of(batch, layout, size) for layout in batch.layouts]
    if not (regional.injection and any(len(mask) for mask in masks)):
        return PromptsOfCells(None, 1, None)
    depth = max(_depth(mask) for mask in masks)
    places = max(layout.window * (1 + len(layout.regions)) for layout in batch.layouts)
    biased = bool(regional.word_bias or regional.subject_bias)
    added, weights = [], []
    for layout, mask in zip(batch.layouts, masks, strict=True):
        chosen = [chosen_of(mask, number) for number in range(depth)]
        prompts = torch.cat([torch.cat([(~one.any(dim=0))[None], one]) for one in chosen], dim=1)
        visible = prompts.T.repeat_interleave(layout.window, dim=1)
        # Fused attention wants rows of a mask to begin at multiples of 16 values.
        scores = torch.full((1, 1, len(visible), -(-places // 16) * 16), -torch.inf)
        scores[0, 0, :, : visible.shape[1]].masked_fill_(visible, 0)
        sides = scores.repeat(len(batch.sides), 1, 1, 1) if biased else scores
        if biased and POSITIVE in batch.sides:
            _add_biases(sides[batch.sides.index(POSITIVE), 0], layout, regional, bool(mask.any()))
        added.append(sides.to(device, batch.base.dtype)[..., :places])
        by_region = mean_weights(mask.float())
        weight = torch.stack([(by_region * one).sum(dim=0) for one in chosen])
        weight[0] += (~mask.any(dim=0)).float()
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
            own = region_weights(steered.region.box, canvas, size, *weighed)
            positive[:, list(steered.places)] = own.flatten()[:, None]
        parts.append(weights)
    return batch.over_rows(parts).to(batch.base.device)


def masks_of(batch: Batch, layout: Conditioning, size: Size) -> Tensor:
    """(regions, cells): which cells each region's prompt acts in; none without injection."""
    boxes = [one.region.box for one in layout.regions]
    masks = box_masks(boxes, *size).flatten(1).bool()
    return masks if batch.regional.injection else torch.zeros_like(masks)


def _depth(masks: Tensor) -> int:
    """How many regions hold a cell at most, and at least 1."""
    return max(int(masks.sum(dim=0).max()) if len(masks) else 1, 1)


def chosen_of(masks: Tensor, number: int) -> Tensor:
    """(regions, cells): for each cell the `number`th (from 0) of the regions that hold it."""
    return masks & (masks.cumsum(dim=0) == number + 1)
