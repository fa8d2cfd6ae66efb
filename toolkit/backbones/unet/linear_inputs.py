"""What linear maps are given during a pass, and which of them are given the same."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from toolkit.backbones.low_rank import linear_maps

_TWINS = {
    ".attn1.to_k": ".attn1.to_q",
    ".attn1.to_v": ".attn1.to_q",
    ".attn2.to_v": ".attn2.to_k",
    ".self_attn.k_proj": ".self_attn.q_proj",
    ".self_attn.v_proj": ".self_attn.q_proj",
}


def reads_text(path: str) -> bool:
    """Whether a map of the U-Net is given the text's encoding: cross-attention's keys, values."""
    return path.endswith((".attn2.to_k", ".attn2.to_v"))


def input_name(path: str) -> str:
    """The map that stands for all that are given what the map at `path` is given."""
    for ending, twin in _TWINS.items():
        if path.endswith(ending):
            return path.removesuffix(ending) + twin
    return path


@contextmanager
def inputs_watched(
    module: nn.Module, paths: Iterable[str], see: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Show `see` the path and the input, as (rows, in), of each map at every call."""
    linears = linear_maps(module)
    handles = []
    try:
        for path in paths:

            def look(_module: nn.Module, inputs: tuple[Tensor, ...], path: str = path) -> None:
                x = inputs[0]
                see(path, (x.movedim(1, -1) if x.ndim == 4 else x).flatten(0, -2))

            handles.append(linears[path].register_forward_pre_hook(look))
        yield
    finally:
        for handle in handles:
            handle.remove()
