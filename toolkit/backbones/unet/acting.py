"""Where each concept's change of a map acts.

An owner is a layout's canvas or a region of it, as in `Conditioning.changes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones.map_change import MapChange
from toolkit.backbones.placed import Placed, placed
from toolkit.backbones.unet.conditioning import Conditioning
from toolkit.backbones.unet.hearing import chosen_of, shares_of
from toolkit.backbones.unet.rows import Batch, Size


def change_of(
    batch: Batch,
    path: str,
    size: Size,
    acts: bool | None = None,
    only_where_changed: bool = False,
    depth: int = 1,
) -> Placed | None:
    """What all owners change of one map, each where it acts; None where nobody changes it.

    acts, only_where_changed: as in `owners_of`.
    depth: as in `CrossInputs`, for a map that reads its queries.
    """
    owners = owners_of(batch, (path,), acts, only_where_changed)
    if owners is None:
        return None
    changes = [own.get(path) for own in owners.changes]
    return placed(changes, weights_of(batch, owners, size, depth), batch.base.maps[path])


def acts_beyond_attention(batch: Batch) -> bool:
    """Whether regions' changes of self-attention, and of maps outside the transformers, act."""
    return batch.regional.injection and batch.regional.self_attention


@dataclass(frozen=True)
class Owners:
    """The owners of all layouts of a batch, in turn, as far as their changes of some maps act.

    changes: of each owner, by path. inside: for each layout, whether its regions' act, and its
    canvas's outside the regions only.
    """

    changes: list[Mapping[str, MapChange]]
    inside: tuple[bool, ...]


def owners_of(
    batch: Batch, paths: Sequence[str], acts: bool | None = None, only_where_changed: bool = False
) -> Owners | None:
    """Whose changes of some maps act; None where nobody changes them.

    acts: whether the regions' changes of these maps act, each in its region; None: as injection
    says. If so, the canvas's change acts outside the regions; if not, everywhere. With
    only_where_changed it also acts everywhere when no region changes these maps.
    """
    acts = batch.regional.injection if acts is None else acts
    changes: list[Mapping[str, MapChange]] = []
    inside = []
    for layout in batch.layouts:
        canvas, *regions = (
            {path: own[path] for path in paths if path in own} for own in layout.changes
        )
        inside.append(acts and (not only_where_changed or any(regions)))
        changes += [canvas, *(regions if inside[-1] else [{}] * len(regions))]
    return Owners(changes, tuple(inside)) if any(changes) else None


def weights_of(batch: Batch, owners: Owners, size: Size, depth: int = 1) -> Tensor | None:
    """(rows or 1, depth * cells, owners): how much of each change acts where; None: everywhere."""
    if owners.inside == (False,):
        return None
    key = ("weights", size, depth, owners.inside, batch.rows_key())
    weights: Tensor = batch.once(key, lambda: _spread(batch, size, depth, owners.inside))
    return weights


def _spread(batch: Batch, size: Size, depth: int, inside: Sequence[bool]) -> Tensor:
    """`weights_of`, made anew."""
    owners = sum(len(layout.changes) for layout in batch.layouts)
    spread, start = [], 0
    for layout, acts in zip(batch.layouts, inside, strict=True):
        whole = torch.zeros(1, depth * size[0] * size[1], owners)
        stop = start + len(layout.changes)
        if acts:
            whole[0, :, start:stop] = _weights(batch, layout, size, depth)
        else:
            whole[0, : size[0] * size[1], start] = 1
        spread.append(whole)
        start = stop
    return batch.over_rows(spread).to(batch.base.device)


def _weights(batch: Batch, layout: Conditioning, size: Size, depth: int) -> Tensor:
    """(depth * cells, owners): how much of each owner's change acts in a cell."""
    own = shares_of(batch, layout, size)
    if depth == 1:
        return own.T
    return torch.cat([own * chosen_of(own, number) for number in range(depth)], dim=1).T
