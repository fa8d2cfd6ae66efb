"""How Stable Diffusion's latents are noised for training, and what is then asked of the U-Net."""

from collections.abc import Mapping
from typing import Any

from diffusers import DDPMScheduler
from torch import Tensor, nn


class NoiseSchedule(nn.Module):
    """The forward diffusion that a base was trained with; a module, so that it moves with others.

    signal: (timesteps,), the cumulative alpha of each.
    prediction_type: "epsilon", "v_prediction" or "sample".
    """

    signal: Tensor

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        """scheduler_config: a diffusers scheduler's."""
        super().__init__()
        schedule = DDPMScheduler.from_config(scheduler_config)
        self.prediction_type = str(schedule.config.prediction_type)
        self.register_buffer("signal", schedule.alphas_cumprod, persistent=False)

    @property
    def timesteps(self) -> int:
        """How many there are."""
        return len(self.signal)

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The latents at `timesteps`, (n,); the other shapes as in `noisy_latents`."""
        return noisy_latents(latents, noise, self.signal[timesteps])

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the base should predict for those noisy latents."""
        return target(latents, noise, self.signal[timesteps], self.prediction_type)


def noisy_latents(latents: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """Forward diffusion: sqrt(a) x0 + sqrt(1 - a) eps (DDPM, eq. 4).

    latents, noise: (n, channels, h, w). signal: (n,), a = cumulative alpha of each timestep.
    """
    signal = signal.view(-1, 1, 1, 1)
    return signal.sqrt() * latents + (1 - signal).sqrt() * noise


def target(latents: Tensor, noise: Tensor, signal: Tensor, prediction_type: str) -> Tensor:
    """What the U-Net is asked for: eps, or v = sqrt(a) eps - sqrt(1 - a) x0 (arXiv 2202.00512).

    Shapes as in `noisy_latents`. prediction_type: "epsilon", "v_prediction" or "sample".
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return latents
    if prediction_type != "v_prediction":
        raise ValueError(f"unknown prediction type {prediction_type}")
    signal = signal.view(-1, 1, 1, 1)
    return signal.sqrt() * noise - (1 - signal).sqrt() * latents
