"""Low-rank changes of linear maps, and letting them act on a network that stays as it is."""

from collections.abc import Iterator, Mapping
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
    module: nn.Module, changes: Mapping[str, LowRank], scale: float
) -> Iterator[None]:
    """Add `scale` times each low-rank product to the output of its linear map in `module`.

    The weights are not touched, so leaving the block restores the module exactly.
    """
    linears = linear_maps(module)
    handles = []
    try:
        for path, pair in changes.items():
            device, dtype = linears[path].weight.device, linears[path].weight.dtype
            change = pair.scaled(scale).to(device, dtype)

            def add(
                _module: nn.Module,
                inputs: tuple[Tensor, ...],
                output: Tensor,
                change: LowRank = change,
            ) -> Tensor:
                if output.ndim == 4:  # a convolution of 1 x 1
                    return output + change(inputs[0].movedim(1, -1)).movedim(-1, 1)
                return output + change(inputs[0])

            handles.append(linears[path].register_forward_hook(add))
        yield
    finally:
        for handle in handles:
            handle.remove()
