"""What the attention layers of one pass are given: made before the loop, for all of its steps.

A pass has a row for each side of classifier-free guidance and each picture: all negative rows, then
all positive ones. An owner is a layout's canvas or a region of it, as in `Conditioning.changes`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.backbones.low_rank import LowRank, SideBySide, side_by_side
from toolkit.backbones.prompts import Regional
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.conditioning import POSITIVE, Conditioning
from toolkit.backbones.unet.isolation import (
    BLOCKED,
    Isolation,
    blocked_counts,
    free_keys,
    isolation,
)
from toolkit.backbones.unet.sites import AttentionLayer, map_size_of
from toolkit.layout.cells import Cells, cells_of
from toolkit.layout.masks import box_masks, shares_of

Made = TypeVar("Made")

Size = tuple[int, int]
"""Rows and columns of a feature map."""


Seen = tuple[Tensor | None, Tensor | Isolation | None]
"""The rows of one layout (None: all), and who sees whom there: scores to add, groups of cells, or
None for everybody."""


@dataclass(frozen=True)
class Joint:
    """The changes of q, k and v, which read the same: one product down, one up for each.

    parts: by the map's name, where its ranks stand, and its way up, (ranks, out).
    """

    down: Tensor
    shares: Tensor | None
    parts: Mapping[str, tuple[slice, Tensor]]


@dataclass(frozen=True)
class SelfInputs:
    """One self-attention layer's.

    inward, outward: changes of q, k, v and of the output, where there are any.
    seen: for each layout of the batch.
    counted: (1, 1, cells, cells) scores to add where probabilities are taken, one for each layout.
    """

    inward: Joint | None
    outward: SideBySide | None
    seen: tuple[Seen, ...]
    counted: tuple[Tensor | None, ...] | None = None


@dataclass(frozen=True)
class CrossInputs:
    """One cross-attention layer's.

    keys, values: (rows, heads, places, width). mask: to add to scores, over (rows, heads, depth *
    cells, places); None: every cell hears the canvas's prompt, which is all there is.
    depth: how many regions hold a cell at most. weights: over (rows, depth, cells, 1), of what each
    of them says; None where the depth is 1.
    query, output: changes of q and of the output, where there are any.
    regional: (rows, heads, regions * window, width) keys of the regions, where maps are taken.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None
    depth: int
    weights: Tensor | None
    query: SideBySide | None
    output: SideBySide | None
    window: int
    regional: Tensor | None = None


@dataclass(frozen=True)
class PassInputs:
    """One pass's, by path of the layer, or of the map that is changed outside attention."""

    self_attention: Mapping[str, SelfInputs]
    cross_attention: Mapping[str, CrossInputs]
    outside_attention: Mapping[str, SideBySide]
    unused_text: Tensor
    """What the U-Net insists on and the attention layers do not read."""


@dataclass(frozen=True, eq=False)
class Batch:
    """The pictures that a pass makes, and how.

    conditionings: one for each picture. sides: of classifier-free guidance, as numbers.
    closed: boxes do not see the background either. grouped: isolation by groups of cells, which a
    CPU does faster, in place of a mask. maps: the layers at the guidance grid give probabilities.
    """

    base: Base
    conditionings: tuple[Conditioning, ...]
    regional: Regional
    sides: tuple[int, ...]
    closed: bool = False
    grouped: bool = True
    maps: bool = False
    self_attention_maps: bool = False
    kept: dict[object, Any] = field(default_factory=dict)
    """What several layers share, made once."""

    @cached_property
    def layouts(self) -> list[Conditioning]:
        """Each conditioning once, in order of appearance."""
        return list({id(one): one for one in self.conditionings}.values())

    @cached_property
    def latent_size(self) -> Size:
        layout, pixels = self.layouts[0].layout, self.base.pixels_per_latent
        return layout.height // pixels, layout.width // pixels

    def rows_of(self, layout: Conditioning) -> Tensor | None:
        """The rows of one layout; None: all."""
        if len(self.layouts) == 1:
            return None
        own = [number for number, one in enumerate(self.conditionings) if one is layout]
        rows = [side * len(self.conditionings) + n for side in range(len(self.sides)) for n in own]
        return torch.tensor(rows, device=self.base.device)

    def once(self, key: object, make: Callable[[], Made]) -> Made:
        """What `make` gives, made only the first time that `key` is asked for."""
        if key not in self.kept:
            self.kept[key] = make()
        made: Made = self.kept[key]
        return made

    def over_rows(self, parts: Sequence[Tensor]) -> Tensor:
        """(sides or 1, ...) of each layout, as (rows, ...); with one layout as few as differ."""
        pictures = len(self.conditionings)
        if len(parts) == 1:
            few = len(parts[0]) == 1 or pictures == 1
            return parts[0] if few else parts[0].repeat_interleave(pictures, dim=0)
        of = {id(layout): part for layout, part in zip(self.layouts, parts, strict=True)}
        rows = [
            of[id(one)][min(side, len(of[id(one)]) - 1)]
            for side in range(len(self.sides))
            for one in self.conditionings
        ]
        return torch.stack(rows)


def pass_inputs(batch: Batch) -> PassInputs:
    """What every layer of a pass over `batch` is given."""
    base = batch.base
    guiding = base.guidance_downscale
    itself, cross = {}, {}
    for layer in base.layers:
        takes_maps = batch.maps and layer.downscale == guiding
        itself[layer.self_attention] = _self_inputs(batch, layer, takes_maps)
        cross[layer.cross_attention] = _cross_inputs(batch, layer, takes_maps)
    attention = tuple(f"{path}." for path in (*itself, *cross))
    paths = dict.fromkeys(path for one in batch.layouts for own in one.changes for path in own)
    outside = {
        path: _change(batch, path, map_size_of(path, base.layers, batch.latent_size))
        for path in paths
        if not path.startswith(attention)
    }
    return PassInputs(
        itself,
        cross,
        {path: change for path, change in outside.items() if change is not None},
        torch.zeros(
            len(batch.sides) * len(batch.conditionings),
            1,
            base.text_width,
            device=base.device,
            dtype=base.dtype,
        ),
    )


def _self_inputs(batch: Batch, layer: AttentionLayer, takes_maps: bool) -> SelfInputs:
    size, path = layer.map_size(batch.latent_size), layer.self_attention
    acts = batch.regional.injection and batch.regional.self_attention
    inward = {
        name: _change(batch, f"{path}.{name}", size, acts, only_where_changed=True)
        for name in ("to_q", "to_k", "to_v")
    }
    counted = None
    if takes_maps and batch.self_attention_maps:
        counted = batch.once(
            ("counted", size),
            lambda: tuple(_counted(batch, layout, size) for layout in batch.layouts),
        )
    return SelfInputs(
        inward=_joint({name: change for name, change in inward.items() if change is not None}),
        outward=_change(batch, f"{path}.to_out.0", size, acts, only_where_changed=True),
        seen=batch.once(("seen", size), lambda: _seen(batch, size)),
        counted=counted,
    )


def _cross_inputs(batch: Batch, layer: AttentionLayer, takes_maps: bool) -> CrossInputs:
    size, path = layer.map_size(batch.latent_size), layer.cross_attention
    heard = batch.once(("heard", size), lambda: _heard(batch, size))
    window = batch.layouts[0].window
    keys = _of_rows(batch, [layout.keys[path] for layout in batch.layouts])
    values = _of_rows(batch, [layout.values[path] for layout in batch.layouts])
    return CrossInputs(
        keys=keys if heard.mask is not None else keys[:, :, :window],
        values=values if heard.mask is not None else values[:, :, :window],
        mask=heard.mask,
        depth=heard.depth,
        weights=heard.weights,
        query=_change(
            batch,
            f"{path}.to_q",
            size,
            batch.regional.injection and batch.regional.queries,
            only_where_changed=True,
        ),
        output=_change(batch, f"{path}.to_out.0", size, depth=heard.depth),
        window=window,
        regional=keys[:, :, window:] if takes_maps else None,
    )


def _of_rows(batch: Batch, parts: Sequence[Tensor]) -> Tensor:
    """(sides, heads, places, width) of each layout as (rows, ...), zeros behind the shorter."""
    most = max(part.shape[2] for part in parts)
    sides = slice(batch.sides[0], batch.sides[-1] + 1)
    padded = [
        part if part.shape[2] == most else functional.pad(part, (0, 0, 0, most - part.shape[2]))
        for part in parts
    ]
    rows = batch.over_rows([part[sides] for part in padded])
    return rows.expand(len(batch.sides) * len(batch.conditionings), -1, -1, -1)


@dataclass(frozen=True)
class _Heard:
    """Which prompt each cell hears, as `CrossInputs` has it."""

    mask: Tensor | None
    depth: int
    weights: Tensor | None


def _heard(batch: Batch, size: Size) -> _Heard:
    regional, device = batch.regional, batch.base.device
    masks = [_masks(batch, layout, size) for layout in batch.layouts]
    if not (regional.injection and any(len(mask) for mask in masks)):
        return _Heard(None, 1, None)
    depth = max(_depth(mask) for mask in masks)
    places = max(layout.window * (1 + len(layout.regions)) for layout in batch.layouts)
    biased = bool(regional.word_bias or regional.subject_bias)
    added, weights = [], []
    for layout, mask in zip(batch.layouts, masks, strict=True):
        chosen = [_chosen(mask, number) for number in range(depth)]
        heard = torch.cat([torch.cat([(~one.any(dim=0))[None], one]) for one in chosen], dim=1)
        visible = heard.T.repeat_interleave(layout.window, dim=1)
        scores = torch.full((1, 1, len(visible), -(-places // 16) * 16), -torch.inf)
        scores[0, 0, :, : visible.shape[1]].masked_fill_(visible, 0)
        sides = scores.repeat(len(batch.sides), 1, 1, 1) if biased else scores
        if biased and POSITIVE in batch.sides:
            _add_biases(sides[batch.sides.index(POSITIVE), 0], layout, regional, bool(mask.any()))
        added.append(sides.to(device, batch.base.dtype)[..., :places])
        shares = shares_of(mask.float())
        weight = torch.stack([(shares * one).sum(dim=0) for one in chosen])
        weight[0] += (~mask.any(dim=0)).float()
        weights.append(weight[None, :, :, None].to(device, batch.base.dtype))
    return _Heard(batch.over_rows(added), depth, batch.over_rows(weights) if depth > 1 else None)


def _add_biases(scores: Tensor, layout: Conditioning, regional: Regional, has_boxes: bool) -> None:
    """Add the biases of some words to (depth * cells, places) scores, in place."""
    if has_boxes:
        scores[:, list(layout.subjects)] += regional.subject_bias
    for number, region in enumerate(layout.regions, 1):
        places = [number * layout.window + place for place in region.places]
        scores[:, places] += regional.word_bias


def _masks(batch: Batch, layout: Conditioning, size: Size) -> Tensor:
    """(regions, cells): which cells each region holds; none at all without injection."""
    boxes = [one.region.box for one in layout.regions]
    masks = box_masks(boxes, *size).flatten(1).bool()
    return masks if batch.regional.injection else torch.zeros_like(masks)


def _depth(masks: Tensor) -> int:
    """How many regions hold a cell at most, and at least 1."""
    return max(int(masks.sum(dim=0).max()) if len(masks) else 1, 1)


def _chosen(masks: Tensor, number: int) -> Tensor:
    """(regions, cells): of the regions that hold a cell the one at `number`, in their order."""
    return masks & (masks.cumsum(dim=0) == number + 1)


def _seen(batch: Batch, size: Size) -> tuple[Seen, ...]:
    return tuple(
        (batch.rows_of(layout), _isolated(batch, layout, size)) for layout in batch.layouts
    )


def _isolated(batch: Batch, layout: Conditioning, size: Size) -> Tensor | Isolation | None:
    boxes = _boxes(batch, layout, size)
    device, dtype = batch.base.device, batch.base.dtype
    if batch.grouped:
        return isolation(boxes, *size, device, batch.closed)
    mask = free_keys(boxes, *size, device, dtype, batch.closed)
    isolating = batch.regional.isolation and len(layout.regions) >= (1 if batch.closed else 2)
    if mask is None and isolating:  # boxes too small for this map: the same graph all the same
        cells = size[0] * size[1]
        return torch.zeros(1, 1, cells, cells, device=device, dtype=dtype)
    return mask


def _counted(batch: Batch, layout: Conditioning, size: Size) -> Tensor | None:
    """(cells, cells) to add to scores in float32, as the released sampler adds it."""
    boxes = _boxes(batch, layout, size)
    if len(boxes) < (1 if batch.closed else 2):
        return None
    return blocked_counts(boxes, *size, batch.base.device, batch.closed) * BLOCKED


def _boxes(batch: Batch, layout: Conditioning, size: Size) -> list[Cells]:
    """The cells of the regions that are isolated from each other."""
    if not batch.regional.isolation:
        return []
    found = (cells_of(one.region.box, *size) for one in layout.regions)
    return [cells for cells in found if cells is not None]


def _change(
    batch: Batch,
    path: str,
    size: Size,
    acts: bool | None = None,
    only_where_changed: bool = False,
    depth: int = 1,
) -> SideBySide | None:
    """What all owners change of one map, each where it acts; None where nobody changes it.

    acts: whether regions' changes of it do; None: as injection says. Where they do, the canvas's
    change acts outside of the boxes; with only_where_changed only if one of them changes the map.
    """
    acts = batch.regional.injection if acts is None else acts
    changes: list[LowRank | None] = []
    inside = []
    for layout in batch.layouts:
        canvas, *regions = (own.get(path) for own in layout.changes)
        inside.append(acts and (not only_where_changed or any(regions)))
        changes += [canvas, *(regions if inside[-1] else [None] * len(regions))]
    if not any(changes):
        return None
    if inside == [False]:
        return side_by_side(changes, None)
    key = ("weights", size, depth, tuple(inside))
    return side_by_side(changes, batch.once(key, lambda: _spread(batch, size, depth, inside)))


def _spread(batch: Batch, size: Size, depth: int, inside: Sequence[bool]) -> Tensor:
    """(rows or 1, depth * cells, owners of all layouts): how much of each change acts where.

    inside: for each layout, whether its regions' changes act, and its canvas's outside of them.
    """
    owners = sum(len(layout.changes) for layout in batch.layouts)
    spread, start = [], 0
    for layout, acts in zip(batch.layouts, inside, strict=True):
        whole = torch.zeros(1, depth * size[0] * size[1], owners)
        stop = start + len(layout.changes)
        if acts:
            whole[0, :, start:stop] = _weights(batch, layout, size, depth)
        else:
            whole[0, : size[0] * size[1], start] = 1
        spread.append(whole)
        start = stop
    return batch.over_rows(spread).to(batch.base.device)


def _weights(batch: Batch, layout: Conditioning, size: Size, depth: int) -> Tensor:
    """(depth * cells, owners): how much of each owner's change acts in a cell."""
    masks = _masks(batch, layout, size)
    shares = shares_of(masks.float())
    outside = (~masks.any(dim=0)).float()[None]
    if depth == 1:
        return torch.cat([outside, shares]).T
    parts = []
    for number in range(depth):
        canvas = outside if number == 0 else torch.zeros_like(outside)
        parts.append(torch.cat([canvas, shares * _chosen(masks, number)]))
    return torch.cat(parts, dim=1).T


def _joint(changes: Mapping[str, SideBySide]) -> Joint | None:
    if not changes:
        return None
    parts, start = {}, 0
    for name, change in changes.items():
        stop = start + change.down.shape[1]
        parts[name] = (slice(start, stop), change.up)
        start = stop
    shares = [change.shares for change in changes.values()]
    joined = None
    if any(share is not None for share in shares):
        whole = [
            change.down.new_ones(1, 1, change.down.shape[1]) if share is None else share
            for change, share in zip(changes.values(), shares, strict=True)
        ]
        rows, cells = (max(share.shape[dim] for share in whole) for dim in (0, 1))
        joined = torch.cat([share.expand(rows, cells, -1) for share in whole], dim=-1)
    return Joint(torch.cat([c.down for c in changes.values()], dim=1), joined, parts)
