"""Batches that are predicted and nothing else: under one conditioning, or under several."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toolkit.backbones import Backbone, Conditioning, Passes
from toolkit.backbones.prompts import Regional
from toolkit.layout.masks import shares
from toolkit.methods.alternating import turn

if TYPE_CHECKING:
    from toolkit.methods.guidance import Guidance
    from toolkit.methods.method import Prepared

ALONE = Regional(isolation=False)
"""Prompts that stand in regions, and no other part of LoRA-Composer."""


class Unguided:
    """Nothing moves the latents but the scheduler."""

    def begin(self, noise: Tensor, timestep: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """The noise as it is."""
        return noise, []

    def refine(
        self, latents: Tensor, number: int, timestep: Tensor
    ) -> "tuple[Tensor, dict[int, Guidance]]":
        """The latents as they are."""
        return latents, {}


class Plain(Unguided):
    """Plain sampling, each picture under one conditioning."""

    def __init__(
        self,
        base: Backbone,
        conditionings: Sequence[Conditioning],
        guidance_scale: float,
        regional: Regional = ALONE,
    ) -> None:
        """regional: how regions attend."""
        self.passes = base.passes(conditionings, regional)
        self.scale = scales_of(base, conditionings, guidance_scale)

    def predict(self, latents: Tensor, number: int, timestep: Tensor) -> Tensor:
        """(pictures, channels, h, w) noise (or velocity)."""
        return self.passes.predict(latents, timestep, self.scale)


class Switching(Unguided):
    """Some steps under each of the layout's conditionings, in turn."""

    def __init__(
        self, base: Backbone, prepared: "Sequence[Prepared]", period: int, guidance_scale: float
    ) -> None:
        self.period = period
        self.base, self.prepared, self.scale = base, prepared, guidance_scale
        self.turns: dict[tuple[int, ...], Passes] = {}

    def predict(self, latents: Tensor, number: int, timestep: Tensor) -> Tensor:
        """(pictures, channels, h, w) noise (or velocity)."""
        turns = tuple(turn(number, len(own), self.period) for own in self.prepared)
        if turns not in self.turns:
            own = [views[index] for views, index in zip(self.prepared, turns, strict=True)]
            self.turns[turns] = self.base.passes(own, ALONE)
        return self.turns[turns].predict(latents, timestep, self.scale)


class Averaging(Unguided):
    """Each step under all of a layout's conditionings: the mean of what they predict."""

    def __init__(
        self, base: Backbone, prepared: "Sequence[Prepared]", guidance_scale: float
    ) -> None:
        self.scale = guidance_scale
        self.views = [(len(own), base.passes(own, ALONE)) for own in prepared]

    def predict(self, latents: Tensor, number: int, timestep: Tensor) -> Tensor:
        """(pictures, channels, h, w) noise (or velocity)."""
        means = []
        for picture, (count, passes) in zip(latents.split(1), self.views, strict=True):
            views = picture.expand(count, -1, -1, -1)
            means.append(passes.predict(views, timestep, self.scale).mean(dim=0, keepdim=True))
        return torch.cat(means)


def scales_of(
    base: Backbone, conditionings: Sequence[Conditioning], guidance_scale: float
) -> float | Tensor:
    """(pictures, 1, h, w): in each region its own scale, the mean of theirs where they overlap.

    The number itself where no region has a scale of its own.
    """
    if all(one.region.guidance_scale is None for c in conditionings for one in c.regions):
        return guidance_scale
    pictures = []
    for conditioning in conditionings:
        layout, regions = conditioning.layout, conditioning.regions
        size = base.latent_size(layout.width, layout.height)
        weights = shares([one.area for one in regions], *size)[1:]
        own = [one.region.guidance_scale for one in regions]
        gains = [0.0 if scale is None else scale - guidance_scale for scale in own]
        pictures.append(guidance_scale + torch.einsum("rhw,r->hw", weights, torch.tensor(gains)))
    return torch.stack(pictures)[:, None].to(base.device)
