"""What concepts change of how the U-Net hears the timestep, each in its own region.

The timestep, and what Stable Diffusion XL is told of the picture's size, becomes one embedding, and
every residual block adds its own projection of that to all cells. A region that changes the
embedding or a projection has its own: what that gives, less what the base's gives, is added in the
region's cells, where the block adds its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolkit.backbones.low_rank import as_picture
from toolkit.backbones.map_change import MapChange, added
from toolkit.backbones.placed import Owned, changes_applied
from toolkit.backbones.unet.acting import acts_beyond_attention, owners_of, weights_of
from toolkit.backbones.unet.rows import Batch
from toolkit.backbones.unet.sites import map_size_of

if TYPE_CHECKING:
    from toolkit.backbones.unet.base import Base

_EMBEDDINGS = ("time_embedding", "add_embedding")
_PROJECTION = ".time_emb_proj"


@dataclass(frozen=True)
class TimestepInputs:
    """What one pass changes of how the timestep is heard.

    changes: of each owner, by path of the map. weights: by path of the residual block, broadcast
    over (rows, cells, owners), how much of each owner's acts where; None: all of it everywhere.
    """

    changes: Sequence[Mapping[str, MapChange]]
    weights: Mapping[str, Tensor | None]

    @contextmanager
    def applied(self, base: "Base") -> Iterator[None]:
        """Let the changes act on the base's U-Net, for the length of the block."""
        heard = _Heard(self, base.maps)
        handles = [
            base.unet.get_submodule(name).register_forward_hook(heard.listen(name))
            for name in _EMBEDDINGS
            if any(path.startswith(f"{name}.") for own in self.changes for path in own)
        ]
        for path in self.weights:
            block = base.unet.get_submodule(path)
            handles.append(block.register_forward_pre_hook(heard.keep_embedding))
            handles.append(block.norm2.register_forward_pre_hook(heard.add_to(path, block)))  # type: ignore[union-attr,arg-type]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def timestep_inputs(batch: Batch, paths: Sequence[str]) -> TimestepInputs | None:
    """What a pass over `batch` changes of the maps of the timestep that some owner changes."""
    owners = owners_of(batch, paths, acts_beyond_attention(batch), only_where_changed=True)
    if owners is None:
        return None
    projections = [path for path in batch.base.maps if path.endswith(_PROJECTION)]
    if not any(path.startswith(_EMBEDDINGS) for path in paths):
        projections = [path for path in projections if path in paths]
    blocks = {
        path.removesuffix(_PROJECTION): map_size_of(path, batch.base.levels, batch.latent_size)
        for path in projections
    }
    return TimestepInputs(
        owners.changes,
        {block: weights_of(batch, owners, size) for block, size in blocks.items()},
    )


@dataclass
class _Heard:
    """What one pass has heard of the timestep so far.

    embedding: (rows, width), the base's. differences: of the owners' own from it, by the module
    that makes them and the owner's number.
    """

    inputs: TimestepInputs
    maps: Mapping[str, nn.Module]
    embedding: Tensor | None = None
    differences: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    again: bool = False

    def listen(self, name: str):  # type: ignore[no-untyped-def]
        """A hook that keeps how each owner's embedding differs: the module makes each anew."""

        def hear(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.again:
                return
            self.again = True
            for number, own in enumerate(self.inputs.changes):
                changes = {
                    path: Owned(change, self.maps[path])
                    for path, change in own.items()
                    if path.startswith(f"{name}.")
                }
                if changes:
                    with changes_applied(self.maps, changes):
                        self.differences[name, number] = module(*inputs) - output
            self.again = False

        return hear

    def keep_embedding(self, _block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A hook that keeps the embedding that a residual block is given."""
        self.embedding = inputs[1]

    def add_to(self, path: str, block: nn.Module):  # type: ignore[no-untyped-def]
        """A hook on a residual block's second norm, which reads the sum of map and projection."""
        weights = self.inputs.weights[path]

        def add(_norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (hidden,) = inputs
            whole = hidden
            for number in range(len(self.inputs.changes)):
                own = self._of(number, f"{path}{_PROJECTION}", block)
                if own is not None:
                    own = own[:, :, None, None]
                    if weights is not None:
                        own = own * as_picture(weights[..., [number]].to(own.dtype), hidden)
                    whole = whole + own
            return (whole,)

        return add

    def _of(self, number: int, path: str, block: nn.Module) -> Tensor | None:
        """(rows, channels): what an owner's own projection gives more than the base's."""
        change = self.inputs.changes[number].get(path)
        differences = [own for (_, n), own in self.differences.items() if n == number]
        if change is None and not differences:
            return None
        assert self.embedding is not None
        said = block.nonlinearity(self.embedding)  # type: ignore[operator]
        more = torch.zeros((), device=said.device, dtype=said.dtype)
        if differences:
            own = block.nonlinearity(self.embedding + sum(differences))  # type: ignore[operator]
            more = functional.linear(own - said, self.maps[path].weight)  # type: ignore[arg-type]
            said = own
        return more if change is None else more + added(change, self.maps[path], said)
