"""Models with one concept merged in: the difference from the base, brought back to low rank."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.unet.names import path_of
from toolkit.errors import InputError

_KEPT_ENERGY = 1 - 1e-6


@dataclass(frozen=True)
class LowRankDifference:
    """What of a merged model's difference from its base a low rank holds.

    lost: the norm of what is left out, as a share of the whole difference's norm.
    """

    changes: Mapping[Part, Mapping[str, LowRank]]
    lost: float


def low_rank_difference(
    merged: Mapping[Part, Mapping[str, Tensor]], base: Base, largest_rank: int, path: Path
) -> LowRankDifference:
    """Each merged weight minus the base's, as a product of at most `largest_rank`.

    merged: full weights by name, `PATH.weight`. Of each difference as many singular values are kept
    as hold all but a millionth of its energy; a map that does not differ is left out.
    Raises InputError for a weight that `base` does not have, or of another shape.
    """
    changes: dict[Part, dict[str, LowRank]] = {part: {} for part in Part}
    kept_energy, lost_energy = 0.0, 0.0
    for part in Part:
        own_weights = base.map_weights(part)
        for name, weight in merged.get(part, {}).items():
            map_path = path_of(name.removesuffix(".weight"))
            if map_path not in own_weights:
                raise InputError(f"{path}: the base has no map {name}")
            own = own_weights[map_path].float()
            if weight.ndim < 2 or weight.flatten(1).shape != own.shape:
                raise InputError(
                    f"{path}: {name} is {tuple(weight.shape)}, the base's {tuple(own.shape)}"
                )
            difference = weight.float().flatten(1) - own
            u, s, v = torch.linalg.svd(difference, full_matrices=False)
            energy = s.square()
            total = float(energy.sum())
            if total <= 1e-12 * float(own.square().sum()):
                continue
            enough = int((energy.cumsum(0) < _KEPT_ENERGY * total).sum()) + 1
            rank = min(enough, largest_rank)
            changes[part][map_path] = LowRank(v[:rank].clone(), u[:, :rank] * s[:rank])
            kept_energy += float(energy[:rank].sum())
            lost_energy += float(energy[rank:].sum())
    whole = kept_energy + lost_energy
    return LowRankDifference(changes, (lost_energy / whole) ** 0.5 if whole else 0.0)
