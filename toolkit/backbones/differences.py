"""Changes that are no products: whole differences, new magnitudes (DoRA), and factors ((IA)^3)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from toolkit.backbones.map_change import MapChange, is_same_map


@dataclass(frozen=True)
class Difference(MapChange):
    """What a map's weight and bias have become, less what they were; None: no difference."""

    of_weight: Tensor | None = None
    of_bias: Tensor | None = None

    def weight(self, own: Tensor) -> Tensor | None:
        return self.of_weight

    def bias(self, own: Tensor | None) -> Tensor | None:
        return self.of_bias

    def scaled(self, factor: float) -> "Difference":
        parts = (self.of_weight, self.of_bias)
        return Difference(*(None if part is None else part * factor for part in parts))

    def fits(self, own: tuple[int, ...]) -> bool:
        weight, bias = self.of_weight, self.of_bias
        if weight is not None and not is_same_map(tuple(weight.shape), own):
            return False
        return bias is None or tuple(bias.shape) == own[:1]

    @property
    def acts(self) -> bool:
        return any(bool(tensor.any()) for tensor in self.tensors.values())

    @property
    def tensors(self) -> dict[str, Tensor]:
        named = {"diff": self.of_weight, "diff_b": self.of_bias}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


@dataclass(frozen=True)
class Rescaled(MapChange):
    """DoRA (arXiv 2402.09353): the changed weight's directions, with magnitudes of their own.

    W becomes m (W + dW) / |W + dW|; what is added is that less W, times `strength`.
    direction: dW. magnitude: m, as many sides as W, of which one is W's and the others are 1: the
    norm is taken over the others. measured: m / |W + dW| - 1, once the base's W is known.
    """

    direction: MapChange
    magnitude: Tensor
    strength: float = 1.0
    measured: Tensor | None = None

    def weight(self, own: Tensor) -> Tensor:
        changed = self.direction.weight(own)
        assert changed is not None
        changed, less = changed.view_as(own), self._less_one(own).to(own.dtype)
        return self.strength * (own * less + changed * (less + 1))

    def on(self, own: Tensor) -> "Rescaled":
        return replace(self, direction=self.direction.on(own), measured=self._less_one(own))

    def _less_one(self, own: Tensor) -> Tensor:
        """m / |W + dW| - 1 in float32, in the magnitude's shape."""
        if self.measured is not None:
            return self.measured
        changed = self.direction.weight(own)
        assert changed is not None
        whole = own.float() + changed.view_as(own).float()
        magnitude = self.magnitude.float().view(*self.magnitude.shape[:2], *[1] * (own.ndim - 2))
        others = [side for side, size in enumerate(magnitude.shape) if size == 1]
        return magnitude / torch.linalg.vector_norm(whole, dim=others, keepdim=True) - 1

    def scaled(self, factor: float) -> "Rescaled":
        return replace(self, strength=self.strength * factor)

    def fits(self, own: tuple[int, ...]) -> bool:
        sides = tuple(self.magnitude.shape)[:2]
        return len(own) > 1 and self.direction.fits(own) and sides in ((own[0], 1), (1, own[1]))

    @property
    def rank(self) -> int:
        return self.direction.rank

    @property
    def acts(self) -> bool:
        return True

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Without the strength, which no file has."""
        return {**self.direction.tensors, "dora_scale": self.magnitude}


@dataclass(frozen=True)
class Multiplied(MapChange):
    """(IA)^3 (arXiv 2205.05638): what goes into a map, or comes out of it, times a factor each.

    less_one: the factors less 1, one for each input, or one for each output. on_input: which.
    with_bias: of the outputs, the bias is multiplied too, as PEFT does it and LyCORIS does not.
    """

    less_one: Tensor
    on_input: bool = False
    with_bias: bool = False

    def weight(self, own: Tensor) -> Tensor:
        sides = (1, -1) if self.on_input else (-1, 1)
        return own * self.less_one.view(*sides, *[1] * (own.ndim - 2))

    def bias(self, own: Tensor | None) -> Tensor | None:
        return own * self.less_one if self.with_bias and own is not None else None

    def scaled(self, factor: float) -> "Multiplied":
        return replace(self, less_one=self.less_one * factor)

    def fits(self, own: tuple[int, ...]) -> bool:
        return len(own) > 1 and len(self.less_one) == own[1 if self.on_input else 0]

    @property
    def tensors(self) -> dict[str, Tensor]:
        if self.on_input:
            return {"ia3_input": self.less_one}
        return {"ia3_output" if self.with_bias else "ia3_output_weight": self.less_one}
