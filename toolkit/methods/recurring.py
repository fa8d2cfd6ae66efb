"""Cones 2's batch on its way: each guided step is taken, noised back, and taken again."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toolkit.backbones import Backbone, Conditioning
from toolkit.backbones.prompts import Regional
from toolkit.methods.cones2 import Cones2
from toolkit.methods.euler import Euler, sigmas_of
from toolkit.methods.plain import Unguided

if TYPE_CHECKING:
    from toolkit.methods.guidance import Guidance


class Recurring:
    """One prompt for the canvas, whose words are drawn to their regions while guidance lasts."""

    def __init__(
        self,
        base: Backbone,
        conditionings: Sequence[Conditioning],
        method: Cones2,
        steps: int,
        guidance_scale: float,
    ) -> None:
        self.passes = base.passes(conditionings, _steered(method))
        self.scale = guidance_scale
        self.weight = method.weight
        self.order = method.order(steps)
        schedule = base.noise_schedule()
        self.scheduler = Euler(
            sigmas_of(schedule.signal, steps), self.order, schedule.prediction_type, base.device
        )
        guided = method.guided(steps)
        self.guiding = sigmas_of(schedule.signal, guided).levels[:guided].tolist()
        self.drawn: list[torch.Generator] = []

    def begin(self, noise: Tensor, timestep: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """The noise as it is; what is drawn later follows from it, picture by picture."""
        self.drawn = [torch.Generator("cpu").manual_seed(_seed_of(picture)) for picture in noise]
        return noise, []

    def refine(
        self, latents: Tensor, number: int, timestep: Tensor
    ) -> "tuple[Tensor, dict[int, Guidance]]":
        """Before a step is taken again: sqrt(s^2 - s'^2) noise, which brings s' back to s."""
        level = self.order[number]
        if number == 0 or self.order[number - 1] != level:
            return latents, {}
        sigma, after = self.scheduler.levels[level], self.scheduler.levels[level + 1]
        return latents + (sigma**2 - after**2).sqrt() * self.fresh_noise(latents, level), {}

    def predict(self, latents: Tensor, number: int, timestep: Tensor) -> Tensor:
        """(pictures, channels, h, w) noise (or velocity)."""
        level = self.order[number]
        shown = latents / (self.scheduler.levels[level] ** 2 + 1).sqrt()
        return self.passes.predict(shown, timestep, self.scale, steering=self.strength(level))

    def strength(self, level: int) -> float:
        """w ln(1 + r^2) with the level r of the guidance's own schedule; 0 behind its end."""
        if level >= len(self.guiding):
            return 0.0
        return _strength(self.weight, torch.tensor(self.guiding[level]) ** 2)

    def fresh_noise(self, latents: Tensor, level: int) -> Tensor:
        """Standard noise for the step that starts at `level`."""
        shape = latents.shape[1:]
        drawn = [torch.randn(shape, generator=generator) for generator in self.drawn]
        return torch.stack(drawn).to(latents)


class Drawn(Unguided):
    """The same words drawn to their regions, at steps of the base's own scheduler."""

    def __init__(
        self,
        base: Backbone,
        conditionings: Sequence[Conditioning],
        method: Cones2,
        guidance_scale: float,
    ) -> None:
        self.passes = base.passes(conditionings, _steered(method))
        self.scale, self.weight = guidance_scale, method.weight
        self.signal = base.noise_schedule().signal.cpu()

    def predict(self, latents: Tensor, number: int, timestep: Tensor) -> Tensor:
        """(pictures, channels, h, w) noise (or velocity)."""
        signal = self.signal[int(timestep)]
        strength = _strength(self.weight, (1 - signal) / signal)
        return self.passes.predict(latents, timestep, self.scale, steering=strength)


def _steered(method: Cones2) -> Regional:
    return Regional(injection=False, isolation=False, steering=(method.inside, method.outside))


def _strength(weight: float, squared: Tensor) -> float:
    """w ln(1 + r^2)."""
    return float(weight * torch.log1p(squared))


def _seed_of(noise: Tensor) -> int:
    """A seed that another start does not share: a picture is to depend on nothing but its own."""
    digest = hashlib.sha256(noise.cpu().float().numpy().tobytes()).digest()
    return int.from_bytes(digest[:7], "big")
