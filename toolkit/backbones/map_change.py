"""What a concept changes of one map of a network, whichever way it was learned.

A linear map, a convolution and the affine part of a norm are all linear in their weight and bias.
So whatever is added to these adds to the map's output what the map itself makes of it: `added`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional


class MapChange(ABC):
    """A change of one map's weight, of its bias, or of both; kinds are frozen dataclasses."""

    @abstractmethod
    def weight(self, own: Tensor) -> Tensor | None:
        """What is added to the map's weight, in the shape of that, which is `own`; None: nothing.

        A convolution of 1 x 1 may get it as (out, in).
        """

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """The change that adds `factor` times as much."""

    @abstractmethod
    def fits(self, own: tuple[int, ...]) -> bool:
        """Whether it can change a map whose weight has this shape."""

    @property
    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What it consists of, by what concept files call that behind the map's name."""

    def bias(self, own: Tensor | None) -> Tensor | None:
        """What is added to the map's bias, which is `own` if there is one; None: nothing."""
        return None

    def on(self, own: Tensor) -> "MapChange":
        """The same, knowing what it needs of the weight that it will change, which is `own`."""
        return self

    @property
    def rank(self) -> int:
        """Of the products that it is made of; 0 where there are none."""
        return 0

    @property
    def acts(self) -> bool:
        """Whether it changes anything: each of the tensors it is made of holds more than zeros."""
        return all(bool(tensor.any()) for tensor in self.tensors.values())

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same on a device, in a type."""
        moved = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor | MapChange):
                moved[field.name] = value.to(device, dtype)
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class Together(MapChange):
    """Several changes of one map, which add up."""

    parts: tuple[MapChange, ...]

    def weight(self, own: Tensor) -> Tensor | None:
        """The sum of theirs."""
        return _sum([part.weight(own) for part in self.parts])

    def bias(self, own: Tensor | None) -> Tensor | None:
        """The sum of theirs."""
        return _sum([part.bias(own) for part in self.parts])

    def scaled(self, factor: float) -> "Together":
        return Together(tuple(part.scaled(factor) for part in self.parts))

    def fits(self, own: tuple[int, ...]) -> bool:
        return all(part.fits(own) for part in self.parts)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Theirs; a file holds no two of one kind for a map."""
        return {name: own for part in self.parts for name, own in part.tensors.items()}

    def on(self, own: Tensor) -> "Together":
        return Together(tuple(part.on(own) for part in self.parts))

    @property
    def rank(self) -> int:
        return max(part.rank for part in self.parts)

    @property
    def acts(self) -> bool:
        return any(part.acts for part in self.parts)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Together":
        return Together(tuple(part.to(device, dtype) for part in self.parts))


def together(changes: list[MapChange]) -> MapChange:
    """The sum of at least one change."""
    parts: list[MapChange] = []
    for change in changes:
        parts += change.parts if isinstance(change, Together) else [change]
    return parts[0] if len(parts) == 1 else Together(tuple(parts))


def added(change: MapChange, module: nn.Module, x: Tensor) -> Tensor:
    """What a change adds to the output of `module`, a map of one of MAPS, for the input x."""
    own: Tensor = module.weight  # type: ignore[assignment]
    bias: Tensor | None = module.bias  # type: ignore[assignment]
    weight, of_bias = change.weight(own), change.bias(bias)
    weight = torch.zeros_like(own) if weight is None else weight.view_as(own).to(x.dtype)
    of_bias = None if of_bias is None else of_bias.to(x.dtype)
    if isinstance(module, nn.Linear):
        return functional.linear(x, weight, of_bias)
    if isinstance(module, nn.Conv2d):
        return functional.conv2d(x, weight, of_bias, module.stride, module.padding)
    if isinstance(module, nn.LayerNorm):
        shape = list(module.normalized_shape)
        return functional.layer_norm(x, shape, weight, of_bias, module.eps)
    assert isinstance(module, nn.GroupNorm)
    return functional.group_norm(x, module.num_groups, weight, of_bias, module.eps)


MAPS = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm)
"""What can be changed; the convolutions of these models have neither groups nor dilation."""


def maps_of(network: nn.Module) -> dict[str, nn.Module]:
    """All maps of a U-Net or text encoder that can be changed, by path, without `text_model.`."""
    return {
        name.removeprefix("text_model."): child
        for name, child in network.named_modules()
        if isinstance(child, MAPS)
    }


def shapes_in(maps: Mapping[str, nn.Module]) -> dict[str, tuple[int, ...]]:
    """The shape of each map's weight, by path."""
    return {path: tuple(own.weight.shape) for path, own in maps.items()}  # type: ignore[union-attr,arg-type,operator,misc]


def is_same_map(shape: tuple[int, ...], own: tuple[int, ...]) -> bool:
    """Whether two weights have one shape, where a convolution of 1 x 1 is a linear map."""
    return _without_kernel(shape) == _without_kernel(own)


def _without_kernel(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _sum(parts: list[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return reduce(torch.add, there) if there else None
