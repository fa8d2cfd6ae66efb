"""The rows of one pass: a row for each side of classifier-free guidance and each picture.

All negative rows stand first, then all positive ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from toolkit.backbones.prompts import Regional
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.conditioning import Conditioning

Made = TypeVar("Made")

Size = tuple[int, int]
"""Rows and columns of a feature map."""


@dataclass(frozen=True, eq=False)
class Batch:
    """The pictures that a pass makes, and how.

    conditionings: one for each picture. sides: of classifier-free guidance, as numbers.
    closed: boxes do not see the background either. grouped: isolation by groups of cells, which a
    CPU does faster, in place of a mask. maps: the layers at the guidance grid give cross-attention
    probabilities, with self_attention_maps those of self-attention too.
    """

    base: Base
    conditionings: tuple[Conditioning, ...]
    regional: Regional
    sides: tuple[int, ...]
    closed: bool = False
    grouped: bool = True
    maps: bool = False
    self_attention_maps: bool = False
    kept: dict[object, Any] = field(default_factory=dict)
    """What `once` has made for several layers, and several passes over the same pictures."""

    @cached_property
    def layouts(self) -> list[Conditioning]:
        """Each conditioning once, in order of appearance."""
        return list({id(one): one for one in self.conditionings}.values())

    @cached_property
    def latent_size(self) -> Size:
        layout = self.layouts[0].layout
        return self.base.latent_size(layout.width, layout.height)

    def rows_of(self, layout: Conditioning) -> Tensor | None:
        """The rows of one layout; None: all."""
        if len(self.layouts) == 1:
            return None
        count = len(self.conditionings)
        pictures = [number for number, one in enumerate(self.conditionings) if one is layout]
        rows = [side * count + picture for side in range(len(self.sides)) for picture in pictures]
        return torch.tensor(rows, device=self.base.device)

    def rows_key(self, differ: bool = False) -> tuple[int, ...]:
        """The part of a key for `once` that tells apart passes whose rows are not the same.

        differ: whether what is made differs between the sides.
        """
        return self.sides if differ or len(self.layouts) > 1 else ()

    def once(self, key: object, make: Callable[[], Made]) -> Made:
        """What `make` gives, made only the first time that `key` is asked for."""
        if key not in self.kept:
            self.kept[key] = make()
        made: Made = self.kept[key]
        return made

    def over_rows(self, parts: Sequence[Tensor]) -> Tensor:
        """(sides or 1, ...) of each layout, as (rows, ...).

        It is left at one row where that broadcasts to all.
        """
        pictures = len(self.conditionings)
        if len(parts) == 1:
            few = len(parts[0]) == 1 or pictures == 1
            return parts[0] if few else parts[0].repeat_interleave(pictures, dim=0)
        of = {id(layout): part for layout, part in zip(self.layouts, parts, strict=True)}
        rows = [
            of[id(one)][min(side, len(of[id(one)]) - 1)]
            for side in range(len(self.sides))
            for one in self.conditionings
        ]
        return torch.stack(rows)
