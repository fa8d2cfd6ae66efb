"""Let a concept's low-rank changes act on a text encoder, for the length of a block."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from toolkit.concept.concept import LowRank, linear_maps


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
                return output + change(inputs[0])

            handles.append(linears[path].register_forward_hook(add))
        yield
    finally:
        for handle in handles:
            handle.remove()
