"""Changes made of products of products: LoHa (arXiv 2108.06098) and LoKr (LyCORIS, 2309.14859)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange, is_same_map


@dataclass(frozen=True)
class Hadamard(MapChange):
    """LoHa: two low-rank matrices multiplied value by value."""

    first: LowRank
    second: LowRank

    def weight(self, own: Tensor) -> Tensor:
        return self.first.weight(own) * self.second.weight(own)

    def scaled(self, factor: float) -> "Hadamard":
        return Hadamard(self.first.scaled(factor), self.second)

    def fits(self, own: tuple[int, ...]) -> bool:
        return self.first.fits(own) and self.second.fits(own)

    @property
    def rank(self) -> int:
        return max(self.first.rank, self.second.rank)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {
            "hada_w1_a": self.first.up,
            "hada_w1_b": self.first.down,
            "hada_w2_a": self.second.up,
            "hada_w2_b": self.second.down,
        }


@dataclass(frozen=True)
class Kronecker(MapChange):
    """LoKr: every value of a small matrix, times another matrix or kernel.

    first: (outer out, outer in). second: (inner out, inner in), of a convolution with its kernel
    behind, whole or of low rank.
    """

    first: Tensor
    second: Tensor | LowRank

    def weight(self, own: Tensor) -> Tensor:
        inner = self.second
        if isinstance(inner, LowRank):
            inner = inner.matrix
        first = self.first.view(*self.first.shape, *[1] * (inner.ndim - 2))
        return torch.kron(first, inner.contiguous())

    def scaled(self, factor: float) -> "Kronecker":
        return Kronecker(self.first * factor, self.second)

    def fits(self, own: tuple[int, ...]) -> bool:
        inner = self.second.shape
        (rows, columns), kernel = self.first.shape, tuple(inner[2:])
        return is_same_map((rows * inner[0], columns * inner[1], *kernel), own)

    @property
    def rank(self) -> int:
        return self.second.rank if isinstance(self.second, LowRank) else 0

    @property
    def tensors(self) -> dict[str, Tensor]:
        if isinstance(self.second, LowRank):
            second = {"lokr_w2_a": self.second.up, "lokr_w2_b": self.second.down}
        else:
            second = {"lokr_w2": self.second}
        return {"lokr_w1": self.first, **second}
