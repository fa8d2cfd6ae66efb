"""Euler's steps down a schedule of sigmas, some of them taken twice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sigmas:
    """How noisy latents are, in deviations, at some timesteps from the last of training's to 0.

    timesteps: (steps,), fractional. levels: (steps + 1,), the last 0. Latents are x = x0 + s noise;
    the base is shown x / sqrt(s^2 + 1).
    """

    timesteps: Tensor
    levels: Tensor


def sigmas_of(signal: Tensor, steps: int) -> Sigmas:
    """`steps` timesteps at equal distances, and s = sqrt((1 - a) / a) between training's own.

    signal: (timesteps,), a, the cumulative alpha of each.
    """
    trained = ((1 - signal) / signal).sqrt().cpu().numpy()
    timesteps = np.linspace(0, len(trained) - 1, steps)[::-1].copy()
    levels = np.append(np.interp(timesteps, np.arange(len(trained)), trained), 0.0)
    return Sigmas(torch.tensor(timesteps).float(), torch.tensor(levels).float())


def noise_in(prediction: Tensor, latents: Tensor, sigma: Tensor, prediction_type: str) -> Tensor:
    """The standard noise in latents x = x0 + s noise, from what the base says of x / sqrt(s^2 + 1).

    prediction_type: "epsilon", "v_prediction" or "sample".
    """
    if prediction_type == "epsilon":
        return prediction
    clean = prediction
    if prediction_type == "v_prediction":
        scale = sigma**2 + 1
        clean = latents / scale - prediction * sigma / scale.sqrt()
    return (latents - clean) / sigma


class Euler:
    """A scheduler for `sampling.denoise`; each step goes from its own level to the next.

    order: which level each step starts from; one that stands twice is taken twice.
    """

    def __init__(
        self, sigmas: Sigmas, order: Sequence[int], prediction_type: str, device: torch.device
    ) -> None:
        self.order = list(order)
        self.levels = sigmas.levels.to(device)
        self.timesteps = sigmas.timesteps[self.order].to(device)
        self.init_noise_sigma = float(sigmas.levels[0])
        self.prediction_type = prediction_type
        self.model_outputs: list[Tensor] = []
        self.level_at = {float(sigmas.timesteps[level]): level for level in self.order}

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> "Stepped":
        """x + (s' - s) noise."""
        level = self.level_at[float(timestep)]
        sigma, after = self.levels[level], self.levels[level + 1]
        noise = noise_in(model_output, sample, sigma, self.prediction_type)
        self.model_outputs = [sample - sigma * noise]
        return Stepped(sample + (after - sigma) * noise)


@dataclass(frozen=True)
class Stepped:
    """What a step made of the latents."""

    prev_sample: Tensor
