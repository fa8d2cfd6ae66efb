"""A Stable Diffusion 1.x model, frozen: what it is made of, and what it can be asked."""

import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DPMSolverMultistepScheduler,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from toolkit.backbones.unet.sites import AttentionLayer, attention_layers
from toolkit.errors import InputError


@dataclass(frozen=True)
class Base:
    """A frozen text-to-image model; nothing in it is ever changed by training or composing.

    guidance_downscale: the latent's height divided by that of the grid at which LoRA-Composer reads
        its attention maps (4 for SD 1.5).
    vae: None for a model without one; pictures can then not be made, latents can.
    lock: held by whoever changes its networks for a while, so that two threads may share a base.
        A thread that holds it may take it again.
    """

    name: str
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL | AutoencoderTiny | None
    scheduler_config: dict[str, Any]
    guidance_downscale: int
    architecture: str
    weights: str
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, or another process, gets: all but the lock, which is one process's own."""
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy has a lock of its own."""
        vars(self).update(state, lock=threading.RLock())

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self._weight.dtype

    @property
    def _weight(self) -> Tensor:
        """One of all: diffusers' own `device` and `dtype` walk through every module, in 3 ms."""
        weight: Tensor = self.unet.conv_in.weight
        return weight

    @cached_property
    def layers(self) -> list[AttentionLayer]:
        """The U-Net's attention layers in ED-LoRA's order."""
        return attention_layers(self.unet)

    @property
    def latent_channels(self) -> int:
        return int(self.unet.config.in_channels)

    @property
    def pixels_per_latent(self) -> int:
        """How many pixels high and wide one latent cell is."""
        if self.vae is None:
            return 8
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size_multiple(self) -> int:
        """Canvas widths and heights must be multiples of this many pixels."""
        return self.pixels_per_latent * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def guidance_cells(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of the guidance grid for a canvas in pixels."""
        pixels = self.pixels_per_latent * self.guidance_downscale
        return height // pixels, width // pixels

    def scheduler(self, steps: int) -> DPMSolverMultistepScheduler:
        """DPM-Solver++ of order 2, set to `steps` timesteps, ending at the smallest sigma."""
        scheduler = DPMSolverMultistepScheduler.from_config(
            self.scheduler_config,
            algorithm_type="dpmsolver++",
            solver_order=2,
            final_sigmas_type="sigma_min",
        )
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    def decode(self, latents: Tensor) -> Tensor:
        """(n, channels, h, w) latents to (n, 3, height, width) pixels in 0..1, float32.

        Raises InputError for a base without an autoencoder.
        """
        if self.vae is None:
            raise InputError(f"base {self.name} has no autoencoder, so it cannot make pictures")
        config = self.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        latents = latents.to(self.vae.dtype) / config.scaling_factor + shift
        pixels = self.vae.decode(latents).sample
        return (pixels.float() / 2 + 0.5).clamp(0, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        """(n, 3, height, width) pixels in 0..1 to (n, channels, h, w) latents.

        For a KL autoencoder the mean of the posterior is taken.
        Raises InputError for a base without an autoencoder.
        """
        if self.vae is None:
            raise InputError(f"base {self.name} has no autoencoder, so it cannot read pictures")
        config = self.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        encoded = self.vae.encode((pixels * 2 - 1).to(self.vae.device, self.vae.dtype))
        if isinstance(self.vae, AutoencoderTiny):
            latents = encoded.latents
        else:
            latents = encoded.latent_dist.mean
        return (latents - shift) * config.scaling_factor
