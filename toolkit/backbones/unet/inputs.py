"""What the attention layers of one pass are given: made before the loop, for all of its steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.backbones.low_rank import SideBySide
from toolkit.backbones.placed import Placed, Several
from toolkit.backbones.unet.acting import acts_beyond_attention, change_of
from toolkit.backbones.unet.hearing import prompts_of_cells, word_weights
from toolkit.backbones.unet.names import hears_timestep, is_of_transformers
from toolkit.backbones.unet.rows import Batch
from toolkit.backbones.unet.seeing import IsolatedRows, isolated_rows, isolating_bias
from toolkit.backbones.unet.sites import AttentionLayer, map_size_of
from toolkit.backbones.unet.timing import TimestepInputs, timestep_inputs


@dataclass(frozen=True)
class Joint:
    """The changes of q, k and v, which have the same input: one product down, one up for each.

    down: (in, ranks of all three). weights: as in `SideBySide`. parts: by the map's name, which of
    the ranks are its own, and its change.
    """

    down: Tensor
    weights: Tensor | None
    parts: Mapping[str, tuple[slice, SideBySide]]


@dataclass(frozen=True)
class SelfInputs:
    """What one self-attention layer is given.

    qkv, output: changes of q, k, v and of the output, where there are any. others: by the map's
    name, changes of q, k and v that are not low-rank.
    isolated: for each layout of the batch, its rows and their concept region mask.
    biases: in layers whose probabilities are taken, for each layout the mask in another form:
    (cells, cells) scores to add.
    """

    qkv: Joint | None
    others: Mapping[str, Several]
    output: Placed | None
    isolated: tuple[IsolatedRows, ...]
    biases: tuple[Tensor | None, ...] | None = None


@dataclass(frozen=True)
class CrossInputs:
    """What one cross-attention layer is given.

    depth: how many regions hold a cell at most. Such a cell stands in the queries `depth` times,
    once for each region's prompt, and the results are averaged.
    keys, values: (rows, heads, places, width) of the canvas's prompt and then every region's; of
    the canvas's alone where mask is None.
    mask: to add to scores, broadcast over (rows, heads, depth * cells, places): minus infinity for
    all prompts but the cell's own. None: every cell attends to the canvas's prompt.
    weights: broadcast over (rows, depth, cells, 1), of the average; None where the depth is 1.
    query, output: changes of q and of the output, where there are any.
    window: the places of one prompt.
    regional: (rows, heads, regions * window, width) keys of the regions, where maps are taken.
    steering: (rows, 1, cells, window) weights of the words that layout guidance draws to regions;
    None where there are none.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None
    depth: int
    weights: Tensor | None
    query: Placed | None
    output: Placed | None
    window: int
    regional: Tensor | None = None
    steering: Tensor | None = None


@dataclass(frozen=True)
class PassInputs:
    """What one pass is given, by path of the layer, or of the map that is changed beside them."""

    self_attention: Mapping[str, SelfInputs]
    cross_attention: Mapping[str, CrossInputs]
    outside_attention: Mapping[str, Placed]
    timestep: TimestepInputs | None
    """What is changed of how the timestep is heard; None where nothing is."""
    unused_text: Tensor
    """The text that diffusers' U-Net must be called with; our attention layers do not read it."""
    added: Mapping[str, Tensor]
    """What it is told beside the prompts, (rows, ...), as `Conditioning` has it."""


def pass_inputs(batch: Batch) -> PassInputs:
    """What every layer of a pass over `batch` is given."""
    base = batch.base
    itself, cross = {}, {}
    for layer in base.layers:
        takes_maps = batch.maps and layer in base.guiding
        itself[layer.self_attention] = _self_inputs(batch, layer, takes_maps)
        cross[layer.cross_attention] = _cross_inputs(batch, layer, takes_maps)
    attention = tuple(f"{path}." for path in (*itself, *cross))
    paths = dict.fromkeys(
        path for layout in batch.layouts for changes in layout.changes for path in changes
    )
    outside = {
        path: _outside_attention(batch, path)
        for path in paths
        if not path.startswith(attention) and not hears_timestep(path)
    }
    rows = len(batch.sides) * len(batch.conditionings)
    sides = slice(batch.sides[0], batch.sides[-1] + 1)
    added = {
        name: batch.over_rows([layout.added[name][sides] for layout in batch.layouts])
        for name in batch.layouts[0].added
    }
    return PassInputs(
        itself,
        cross,
        {path: change for path, change in outside.items() if change is not None},
        timestep_inputs(batch, tuple(filter(hears_timestep, paths))),
        torch.zeros(
            rows,
            1,
            base.text_width,
            device=base.device,
            dtype=base.dtype,
        ),
        {name: part.expand(rows, -1) for name, part in added.items()},
    )


def _outside_attention(batch: Batch, path: str) -> Placed | None:
    """What is changed of a map beside attention."""
    size = map_size_of(path, batch.base.levels, batch.latent_size)
    if is_of_transformers(path):
        return change_of(batch, path, size)
    return change_of(batch, path, size, acts_beyond_attention(batch), only_where_changed=True)


def _self_inputs(batch: Batch, layer: AttentionLayer, takes_maps: bool) -> SelfInputs:
    size, path = layer.map_size(batch.latent_size), layer.self_attention
    acts = acts_beyond_attention(batch)
    changes = {
        name: change_of(batch, f"{path}.{name}", size, acts, only_where_changed=True)
        for name in ("to_q", "to_k", "to_v")
    }
    biases = None
    if takes_maps and batch.self_attention_maps:
        biases = batch.once(
            ("biases", size, batch.closed),
            lambda: tuple(isolating_bias(batch, layout, size) for layout in batch.layouts),
        )
    low_rank = {name: _low_rank(change) for name, change in changes.items()}
    return SelfInputs(
        qkv=_joint({name: change for name, change in low_rank.items() if change is not None}),
        others={
            name: Several(None, change.others)
            for name, change in changes.items()
            if isinstance(change, Several)
        },
        output=change_of(batch, f"{path}.to_out.0", size, acts, only_where_changed=True),
        isolated=batch.once(
            ("isolated", size, batch.closed, batch.rows_key()), lambda: isolated_rows(batch, size)
        ),
        biases=biases,
    )


def _cross_inputs(batch: Batch, layer: AttentionLayer, takes_maps: bool) -> CrossInputs:
    size, path = layer.map_size(batch.latent_size), layer.cross_attention
    biased = bool(batch.regional.word_bias or batch.regional.subject_bias)
    own = batch.once(
        ("prompts", size, batch.rows_key(biased)), lambda: prompts_of_cells(batch, size)
    )
    window = batch.layouts[0].window
    keys = _of_rows(batch, [layout.keys[path] for layout in batch.layouts])
    values = _of_rows(batch, [layout.values[path] for layout in batch.layouts])
    return CrossInputs(
        keys=keys if own.mask is not None else keys[:, :, :window],
        values=values if own.mask is not None else values[:, :, :window],
        mask=own.mask,
        depth=own.depth,
        weights=own.weights,
        query=change_of(
            batch,
            f"{path}.to_q",
            size,
            batch.regional.injection and batch.regional.queries,
            only_where_changed=True,
        ),
        output=change_of(batch, f"{path}.to_out.0", size, depth=own.depth),
        window=window,
        regional=keys[:, :, window:] if takes_maps else None,
        steering=batch.once(
            ("steering", size, batch.rows_key(True)), lambda: word_weights(batch, size)
        ),
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


def _low_rank(change: Placed | None) -> SideBySide | None:
    if isinstance(change, Several):
        return change.low_rank
    return change if isinstance(change, SideBySide) else None


def _joint(changes: Mapping[str, SideBySide]) -> Joint | None:
    if not changes:
        return None
    parts, start = {}, 0
    for name, change in changes.items():
        stop = start + change.down.shape[1]
        parts[name] = (slice(start, stop), change)
        start = stop
    weights = [change.weights for change in changes.values()]
    joint = None
    if any(weight is not None for weight in weights):
        whole = [
            change.down.new_ones(1, 1, change.down.shape[1]) if weight is None else weight
            for change, weight in zip(changes.values(), weights, strict=True)
        ]
        rows, cells = (max(weight.shape[dim] for weight in whole) for dim in (0, 1))
        joint = torch.cat([weight.expand(rows, cells, -1) for weight in whole], dim=-1)
    return Joint(torch.cat([c.down for c in changes.values()], dim=1), joint, parts)
