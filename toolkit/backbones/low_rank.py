"""Low-rank changes of linear maps, and letting them act on a network that stays as it is.

However many concepts change a map, and wherever each acts, all of it is two products: x down,
weighted rank by rank with where that rank's owner acts, times up.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LowRank:
    """A low-rank change of one linear map: x -> x down^T up^T.

    down: (rank, in), PEFT's lora_A. up: (out, rank), PEFT's lora_B.
    """

    down: Tensor
    up: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out): what is added to the linear map's output."""
        return x @ self.down.to(x.dtype).T @ self.up.to(x.dtype).T

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

    def inner(self, x: Tensor) -> Tensor:
        """(rows, cells, in) to (rows, cells, ranks)."""
        inner = x @ self.down
        return inner if self.weights is None else inner * self.weights

    def outer(self, output: Tensor, inner: Tensor) -> Tensor:
        """`output`, (rows, cells, out), plus the change that `inner` gives."""
        flat = torch.addmm(output.flatten(0, -2), inner.flatten(0, -2), self.up)
        return flat.view_as(output)

    def added(self, output: Tensor, x: Tensor) -> Tensor:
        """The map's `output` for `x`, (rows, cells, out), plus the change of it."""
        return self.outer(output, self.inner(x))


def side_by_side(changes: Sequence[LowRank | None], weights: Tensor | None) -> SideBySide:
    """The changes that owners make of one map, as one.

    changes: by owner; None where it makes none, but not all. weights: broadcast over (rows, cells,
    owners), how much each owner's change acts where; None: all of it everywhere.
    """
    there = [change for change in changes if change is not None]
    down = torch.cat([change.down for change in there]).T.contiguous()
    up = torch.cat([change.up for change in there], dim=1).T.contiguous()
    if weights is None:
        return SideBySide(down, up)
    owner = [n for n, change in enumerate(changes) if change for _ in range(len(change.down))]
    return SideBySide(down, up, weights[..., owner].to(down))


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


@contextmanager
def changes_applied(
    maps: Mapping[str, nn.Module], changes: Mapping[str, SideBySide]
) -> Iterator[None]:
    """Let each change act on the output of its linear map, for the length of the block.

    maps: by path, `linear_maps` of the module. What a convolution reads and gives is (rows,
    channels, height, width), and its cells are taken row by row. The weights are not touched, so
    leaving the block restores the module exactly.
    """
    handles = []
    try:
        for path, change in changes.items():
            handles.append(maps[path].register_forward_hook(_adding(change)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adding(change: SideBySide):  # type: ignore[no-untyped-def]
    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if output.ndim == 4:
            rows = change.added(_as_cells(output), _as_cells(inputs[0]))
            return rows.transpose(1, 2).unflatten(2, output.shape[2:])
        return change.added(output, inputs[0])

    return add


def _as_cells(picture: Tensor) -> Tensor:
    """(rows, channels, height, width) as (rows, cells, channels)."""
    return picture.flatten(2).transpose(1, 2)
