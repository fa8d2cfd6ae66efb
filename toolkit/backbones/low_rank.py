"""Low-rank changes: of linear maps two products, of a convolution (LoCon) one with its kernel.

However many concepts change a map, and wherever each acts, all of it is two products: x down,
weighted rank by rank with where that rank's owner acts, times up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.backbones.map_change import MapChange, is_same_map


@dataclass(frozen=True)
class LowRank(MapChange):
    """A low-rank change of one map: of a linear one x -> x down^T up^T.

    down: (rank, in), PEFT's lora_A; of a convolution (rank, in, kernel height, kernel width).
    up: (out, rank), PEFT's lora_B.
    """

    down: Tensor
    up: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out): what is added to a linear map's output."""
        return x @ self.down.to(x.dtype).T @ self.up.to(x.dtype).T

    @property
    def matrix(self) -> Tensor:
        """up down: (out, in), of a convolution with its kernel behind."""
        return (self.up @ self.down.flatten(1)).unflatten(1, self.down.shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `matrix`."""
        return (self.up.shape[0], *self.down.shape[1:])

    def weight(self, own: Tensor) -> Tensor:
        return self.matrix

    def fits(self, own: tuple[int, ...]) -> bool:
        return is_same_map(self.shape, own)

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"lora_A.weight": self.down, "lora_B.weight": self.up}

    def to(self, device: torch.device, dtype: torch.dtype) -> "LowRank":
        return LowRank(self.down.to(device, dtype), self.up.to(device, dtype))

    def scaled(self, factor: float) -> "LowRank":
        return self if factor == 1.0 else LowRank(self.down, self.up * factor)


@dataclass(frozen=True)
class SideBySide:
    """What several owners change of one linear map, their ranks side by side.

    down: (in, ranks). up: (ranks, out). weights: broadcast over (rows, cells, ranks), how much of
    each rank acts where; None: all of it everywhere.
    """

    down: Tensor
    up: Tensor
    weights: Tensor | None = None

    def outer(self, output: Tensor, inner: Tensor) -> Tensor:
        """`output`, (rows, cells, out), plus the change that `inner`, (..., ranks), gives."""
        flat = torch.addmm(output.flatten(0, -2), inner.flatten(0, -2), self.up)
        return flat.view_as(output)

    def added(self, output: Tensor, x: Tensor, depth: int = 1) -> Tensor:
        """The map's `output` for `x`, (rows, cells, out), plus the change of it.

        A convolution of 1 x 1 reads and gives (rows, channels, height, width); its cells are taken
        row by row. depth: how often the cells of `x` stand in it, to be summed for `output`.
        """
        if output.ndim == 4:
            rows = self.added(_as_cells(output), _as_cells(x))
            return rows.transpose(1, 2).unflatten(2, output.shape[2:])
        inner = x @ self.down
        if self.weights is not None:
            inner = inner * self.weights
        return self.outer(output, over_depth(inner, depth))


@dataclass(frozen=True)
class ConvolvedSideBySide:
    """What several owners change of one convolution, their ranks side by side.

    down: (ranks, in, kernel height, kernel width). up: (out, ranks). weights: as in `SideBySide`.
    convolution: the map, of which stride and padding are taken.
    """

    down: Tensor
    up: Tensor
    weights: Tensor | None
    convolution: nn.Conv2d

    def added(self, output: Tensor, x: Tensor, depth: int = 1) -> Tensor:
        """The map's `output` for `x`, (rows, channels, height, width), plus the change of it."""
        own = self.convolution
        inner = functional.conv2d(x, self.down, None, own.stride, own.padding)
        if self.weights is not None:
            inner = inner * as_picture(self.weights, output)
        return output + functional.conv2d(inner, self.up[:, :, None, None])


def side_by_side(changes: Sequence[LowRank | None], weights: Tensor | None) -> SideBySide:
    """The changes that owners make of one linear map, as one.

    changes: by owner; None where it makes none, but not all. weights: broadcast over (rows, cells,
    owners), how much each owner's change acts where; None: all of it everywhere.
    """
    there = [change for change in changes if change is not None]
    down = torch.cat([change.down for change in there]).T.contiguous()
    up = torch.cat([change.up for change in there], dim=1).T.contiguous()
    return SideBySide(down, up, _by_rank(changes, weights, down))


def convolved_side_by_side(
    changes: Sequence[LowRank | None], weights: Tensor | None, convolution: nn.Conv2d
) -> ConvolvedSideBySide:
    """The changes that owners make of one convolution, as one; else as `side_by_side`."""
    there = [change for change in changes if change is not None]
    down = torch.cat([change.down for change in there])
    up = torch.cat([change.up for change in there], dim=1)
    return ConvolvedSideBySide(down, up, _by_rank(changes, weights, down), convolution)


def _by_rank(
    changes: Sequence[LowRank | None], weights: Tensor | None, like: Tensor
) -> Tensor | None:
    """Weights of owners as weights of their ranks."""
    if weights is None:
        return None
    owner = [n for n, change in enumerate(changes) if change for _ in range(change.rank)]
    return weights[..., owner].to(like)


def linear_maps(module: torch.nn.Module) -> dict[str, torch.nn.Linear | torch.nn.Conv2d]:
    """All linear maps of a U-Net or text encoder by path, without a leading `text_model.`.

    A convolution of 1 x 1 is one, too: Stable Diffusion 1.x has them around its attention.
    """
    return {
        name.removeprefix("text_model."): child
        for name, child in module.named_modules()
        if isinstance(child, torch.nn.Linear)
        or (isinstance(child, torch.nn.Conv2d) and child.kernel_size == (1, 1))
    }


def as_picture(weights: Tensor, output: Tensor) -> Tensor:
    """(rows, cells, n) as (rows, n, height, width), of `output`'s height and width."""
    if weights.shape[1] == 1:  # the same in every cell
        return weights.transpose(1, 2)[..., None]
    return weights.transpose(1, 2).unflatten(2, output.shape[2:])


def over_depth(x: Tensor, depth: int) -> Tensor:
    """(rows, depth * cells, n) summed to (rows, cells, n)."""
    return x if depth == 1 else x.unflatten(1, (depth, -1)).sum(dim=1)


def _as_cells(picture: Tensor) -> Tensor:
    """(rows, channels, height, width) as (rows, cells, channels)."""
    return picture.flatten(2).transpose(1, 2)
