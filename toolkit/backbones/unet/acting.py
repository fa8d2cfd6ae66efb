"""Where each concept's change of a linear map acts.

An owner is a layout's canvas or a region of it, as in `Conditioning.changes`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.backbones.low_rank import LowRank, SideBySide, side_by_side
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
) -> SideBySide | None:
    """What all owners change of one map, each where it acts; None where nobody changes it.

    acts: whether the regions' changes of this map act, each in its region; None: as injection says.
    If so, the canvas's change acts outside the regions; if not, everywhere. With only_where_changed
    it also acts everywhere when no region changes this map.
    depth: as in `CrossInputs`, for a map that reads its queries.
    """
    acts = batch.regional.injection if acts is None else acts
    changes: list[LowRank | None] = []
    inside = []
    for layout in batch.layouts:
        canvas, *regions = (changes_of.get(path) for changes_of in layout.changes)
        inside.append(acts and (not only_where_changed or any(regions)))
        changes += [canvas, *(regions if inside[-1] else [None] * len(regions))]
    if not any(changes):
        return None
    if inside == [False]:
        return side_by_side(changes, None)
    key = ("weights", size, depth, tuple(inside), batch.rows_key())
    return side_by_side(changes, batch.once(key, lambda: _spread(batch, size, depth, inside)))


def _spread(batch: Batch, size: Size, depth: int, inside: Sequence[bool]) -> Tensor:
    """(rows or 1, depth * cells, owners of all layouts): how much of each change acts where.

    inside: for each layout, whether its regions' changes act, and its canvas's outside the boxes
    only.
    """
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
