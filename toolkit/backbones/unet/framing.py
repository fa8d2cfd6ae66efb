"""What a Stable Diffusion XL U-Net is told of a picture beside its prompt: its size and its cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Framing:
    """What a picture was cut out of; all in pixels, rows first (arXiv 2307.01952, section 2.2).

    original: height and width of the whole picture. corner: how far from its top and left the cut
    begins. target: height and width of the cut.
    """

    original: tuple[int, int]
    corner: tuple[int, int]
    target: tuple[int, int]

    @classmethod
    def whole(cls, width: int, height: int) -> "Framing":
        """Of a picture that was not cut."""
        return cls((height, width), (0, 0), (height, width))

    @property
    def time_ids(self) -> tuple[int, ...]:
        """The six numbers, in the order in which the U-Net takes them."""
        return (*self.original, *self.corner, *self.target)


def framed(added: Mapping[str, Tensor], framing: Framing) -> Mapping[str, Tensor]:
    """What `added_conditions` gave, of another framing."""
    if not added:
        return added
    rows = torch.tensor([framing.time_ids] * len(added["time_ids"]))
    return {**added, "time_ids": rows.to(added["time_ids"])}


def added_conditions(pooled: Tensor | None, framings: Sequence[Framing]) -> Mapping[str, Tensor]:
    """What diffusers' U-Net takes as `added_cond_kwargs`; nothing without a pooled text.

    pooled: (rows, pooled width). framings: one for each row.
    """
    if pooled is None:
        return {}
    ids = torch.tensor([framing.time_ids for framing in framings])
    return {"text_embeds": pooled, "time_ids": ids.to(pooled)}
