"""Concept region mask: who may attend to whom in self-attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from toolkit.layout.cells import Cells
from toolkit.layout.masks import cell_mask

BLOCKED = -1e6
"""Added to a score once for every other concept's box that holds the key."""


@dataclass(frozen=True)
class QueryGroup:
    """Queries that lie in the same boxes, and the keys they see.

    queries, keys: indices into the flattened map. bias: what is added to every score in float32, 0
    unless every key of the map is blocked at least once. It changes nothing but the rounding, which
    is then as coarse as in the released sampler; types of 16 bits cannot hold it and go without.
    """

    queries: Tensor
    keys: Tensor
    bias: float


@dataclass(frozen=True)
class Isolation:
    """The region mask of one layout at one map size, without a queries x keys matrix.

    A blocked score is 1e6 lower than a free one, so its probability is exactly zero: the keys can
    be left out instead. restore: puts the groups' outputs, one after the other, back in order.
    """

    groups: tuple[QueryGroup, ...]
    restore: Tensor


def blocked_counts(
    boxes: Sequence[Cells], height: int, width: int, device: torch.device, closed: bool = False
) -> Tensor:
    """(queries, keys): how often the pair is blocked: boxes n holding q and m != n holding k.

    closed: the background's keys are blocked too for queries in boxes, more than once.
    """
    inside, others = _inside_and_others(boxes, height, width, device)
    return _blocked(inside.T, inside, others, closed)


def free_keys(
    boxes: Sequence[Cells],
    height: int,
    width: int,
    device: torch.device,
    dtype: torch.dtype,
    closed: bool = False,
) -> Tensor | None:
    """(1, 1, queries, keys) to add to scores: minus infinity for keys that a query does not see.

    A query sees the keys that are blocked least; they have what `QueryGroup.bias` has.
    None where the mask changes nothing.
    """
    if len(boxes) < (1 if closed else 2):
        return None
    blocked = blocked_counts(boxes, height, width, device, closed)
    least = blocked.amin(dim=-1, keepdim=True)
    bias = least * BLOCKED if dtype is torch.float32 else torch.zeros_like(least, dtype=dtype)
    return torch.where(blocked == least, bias, -torch.inf)[None, None]


def isolation(
    boxes: Sequence[Cells], height: int, width: int, device: torch.device, closed: bool = False
) -> Isolation | None:
    """The region mask for `boxes`; None where it changes nothing.

    closed: queries in a box see that box alone, and not the background either.
    """
    if len(boxes) < (1 if closed else 2):
        return None
    return _grouped(tuple(boxes), height, width, device, closed)


@lru_cache(maxsize=128)
def _grouped(
    boxes: tuple[Cells, ...], height: int, width: int, device: torch.device, closed: bool
) -> Isolation:
    """Kept, because every layer of a size asks for it again at every step."""
    inside, others = _inside_and_others(boxes, height, width, device)
    members, member_of = inside.T.unique(dim=0, return_inverse=True)
    groups = []
    for number, membership in enumerate(members):
        blocked = _blocked(membership, inside, others, closed)
        least = blocked.min()
        groups.append(
            QueryGroup(
                queries=(member_of == number).nonzero()[:, 0],
                keys=(blocked == least).nonzero()[:, 0],
                bias=float(least) * BLOCKED,
            )
        )
    order = torch.cat([group.queries for group in groups])
    return Isolation(tuple(groups), order.argsort())


def _blocked(memberships: Tensor, inside: Tensor, others: Tensor, closed: bool) -> Tensor:
    """(..., keys): how often a query in the boxes that `memberships` marks is blocked.

    memberships: (..., boxes).
    closed: counted from the key that is blocked least. It changes no probability, but scores that
    are all lowered by 1e6 would be rounded to 1/16. As published they are, where boxes overlap and
    hold the whole canvas, so without closed the count is left as it is.
    """
    blocked = memberships @ others
    if closed:
        background = (inside.sum(dim=0) == 0).to(blocked.dtype)
        anywhere = memberships.amax(dim=-1, keepdim=True)
        blocked = blocked + len(inside) ** 2 * anywhere * background
        blocked = blocked - blocked.amin(dim=-1, keepdim=True)
    return blocked


def _inside_and_others(
    boxes: Sequence[Cells], height: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(boxes, cells) each: 1 where the box holds the cell; how many other boxes hold it."""
    inside = torch.stack([cell_mask(box, height, width).flatten() for box in boxes]).to(device)
    return inside, inside.sum(dim=0)[None, :] - inside
