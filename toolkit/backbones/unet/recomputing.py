"""Transformer blocks that a guidance pass computes again on its way back, and does not keep."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from toolkit.backbones.placed import Placed, changes_applied
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.sites import transformer_of

KEPT_AT_MOST = 4 * 10**8
"""Bytes that the blocks of one guidance pass may keep; those beyond are computed again.

Stable Diffusion 1.5 keeps 0.3 GB at 512 x 512 in float32, XL 3.4 GB at 1024 x 1024 in 16 bits. With
the maps, and what lies between the blocks, XL's composing stays at 2 GB above plain sampling
(docs/performance.md); with 1 GB of blocks it took 2.5.
"""

_VALUES_KEPT = 21
"""For each cell and channel of a block: 12 in its feed-forward, 6 in its attentions (queries, keys,
values and results; queries and results), 3 at its norms. `scripts/guidance_memory.py` counts them.
"""


def blocks_computed_again(base: Base, latent_size: tuple[int, int], rows: int) -> Sequence[str]:
    """The paths of the blocks that a guidance pass over so many rows does not keep.

    As many as it takes, from the first on: on finer grids the same memory costs less time. Those
    whose maps are taken are kept.
    """
    before = base.layers[: base.layers.index(base.guiding[-1])]
    blocks = [layer for layer in before if layer not in base.guiding]
    keeps = {}
    for layer in blocks:
        height, width = layer.map_size(latent_size)
        channels: Any = base.unet.get_submodule(layer.self_attention).to_q.in_features
        values = rows * height * width * channels * _VALUES_KEPT
        keeps[layer.name] = values * base.dtype.itemsize
    kept, again = sum(keeps.values()), []
    for name, own in keeps.items():
        if kept > KEPT_AT_MOST:
            again.append(name)
            kept -= own
    return again


@contextmanager
def computed_again(
    unet: nn.Module, blocks: Sequence[str], changes: Mapping[str, Placed]
) -> Iterator[None]:
    """Let these blocks keep only what they are given, in a pass with gradients inside of this.

    Their backward pass does the same operations on the same numbers again, so gradients are the
    same to the bit. Until then nobody may change the network (`Passes.undisturbed`).
    changes: by path, of maps beside attention; they act again then.
    """
    paths = {unet.get_submodule(path): path for path in blocks}

    def call(block: nn.Module, *given: Any) -> Any:
        if block not in paths:
            return block(*given)
        inside = f"{paths[block]}."
        own = {path: change for path, change in changes.items() if path.startswith(inside)}
        maps = {path: unet.get_submodule(path) for path in own}

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), changes_applied(maps, own)

        return checkpoint(
            block, *given, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
        )

    names = dict.fromkeys(transformer_of(path) for path in blocks)
    transformers: list[Any] = [unet.get_submodule(name) for name in names]
    for_training = [one.is_gradient_checkpointing for one in transformers]
    for transformer in transformers:
        transformer.enable_gradient_checkpointing(call)
    try:
        yield
    finally:
        for transformer, enabled in zip(transformers, for_training, strict=True):
            if enabled:
                transformer.enable_gradient_checkpointing()
            else:
                transformer.disable_gradient_checkpointing()
