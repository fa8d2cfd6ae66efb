"""Changes that owners make of a network's maps, each where it acts; the network stays as it is.

Owners are concepts, as a layout or a batch of prompts has them. Low-rank changes of all owners are
one (`low_rank.py`); any other kind is computed by itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from toolkit.backbones.low_rank import (
    LowRank,
    SideBySide,
    as_picture,
    convolved_side_by_side,
    over_depth,
    side_by_side,
)
from toolkit.backbones.map_change import MapChange, Together, added


class Placed(Protocol):
    """What is changed of one map, and where."""

    def added(self, output: Tensor, x: Tensor, depth: int = 1) -> Tensor:
        """The map's own `output` for `x`, plus the change of it.

        Both are (rows, cells, channels), or (rows, channels, height, width) of a convolution.
        depth: how often the cells of `x` stand in it, to be summed for each of `output`.
        """
        ...


@dataclass(frozen=True)
class Owned:
    """One owner's change of one map, of any kind.

    weights: broadcast over (rows, cells, 1), how much of it acts where; None: all of it everywhere.
    """

    change: MapChange
    module: nn.Module
    weights: Tensor | None = None

    def added(self, output: Tensor, x: Tensor, depth: int = 1) -> Tensor:
        own = added(self.change, self.module, x)
        if self.weights is not None:
            own = own * (as_picture(self.weights, own) if own.ndim == 4 else self.weights)
        return output + over_depth(own, depth)


@dataclass(frozen=True)
class Several:
    """Changes of one map beside each other: what is low-rank as one, if there is any; the rest."""

    low_rank: SideBySide | None
    others: tuple[Placed, ...]

    def added(self, output: Tensor, x: Tensor, depth: int = 1) -> Tensor:
        whole = output if self.low_rank is None else self.low_rank.added(output, x, depth)
        for other in self.others:
            whole = other.added(whole, x, depth)
        return whole


def placed(
    changes: Sequence[MapChange | None], weights: Tensor | None, module: nn.Module
) -> SideBySide | Several:
    """The changes that owners make of `module`, as one.

    changes: by owner; None where it makes none, but not all. weights: broadcast over (rows, cells,
    owners), how much each owner's change acts where; None: all of it everywhere.
    """
    parts = [_parts_of(change) for change in changes]
    low_rank = [next((p for p in own if isinstance(p, LowRank)), None) for own in parts]
    linear = [one if one is not None and one.down.ndim == 2 else None for one in low_rank]
    convolved = [one if one is not None and one.down.ndim == 4 else None for one in low_rank]
    others: list[Placed] = []
    if any(convolved):
        assert isinstance(module, nn.Conv2d)
        others.append(convolved_side_by_side(convolved, weights, module))
    for number, own in enumerate(parts):
        rest = [part for part in own if part is not low_rank[number]]
        where = None
        if rest and weights is not None:
            where = weights[..., [number]].to(_weight_of(module).dtype)
        others += [Owned(part, module, where) for part in rest]
    whole = side_by_side(linear, weights) if any(linear) else None
    return whole if whole is not None and not others else Several(whole, tuple(others))


def ready(change: MapChange, module: nn.Module, dtype: torch.dtype) -> MapChange:
    """A change of `module`, where that is and in the type that it is computed in."""
    own = _weight_of(module)
    if isinstance(change, LowRank):
        return change.to(own.device, dtype)
    return change.to(own.device, torch.float32).on(own).to(own.device, dtype)


def _weight_of(module: nn.Module) -> Tensor:
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight


def _parts_of(change: MapChange | None) -> tuple[MapChange, ...]:
    if isinstance(change, Together):
        return change.parts
    return () if change is None else (change,)


@contextmanager
def changes_applied(maps: Mapping[str, nn.Module], changes: Mapping[str, Placed]) -> Iterator[None]:
    """Let each change act on the output of its map, for the length of the block.

    maps: by path, `maps_of` the network. The weights are not touched, so leaving the block restores
    the network exactly.
    """
    handles = []
    try:
        for path, change in changes.items():
            handles.append(maps[path].register_forward_hook(_adding(change)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adding(change: Placed):  # type: ignore[no-untyped-def]
    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return change.added(output, inputs[0])

    return add
