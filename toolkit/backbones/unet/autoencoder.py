"""Latents to and from pixels, in pieces where the whole would need too much memory at once."""

from typing import TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny

PIXELS_AT_ONCE = 2048 * 1024
"""How many pixels are decoded at once: eight pictures of 512 x 512, the largest batch of Stable
Diffusion 1.5, or two of 1024 x 1024. The last layers of a KL autoencoder hold several maps of 128
channels in full size: in float32 about 5 GB for so many pixels. More pictures are decoded in
several goes, which changes nothing, and a larger picture in tiles, which overlap."""


def decode(vae: Autoencoder, latents: Tensor) -> Tensor:
    """(n, channels, h, w) latents to (n, 3, height, width) pixels in 0..1, float32."""
    config = vae.config
    shift = getattr(config, "shift_factor", None) or 0.0
    latents = latents.to(vae.dtype) / config.scaling_factor + shift
    area = latents.shape[2] * latents.shape[3] * 4 ** (len(config.block_out_channels) - 1)
    several = max(PIXELS_AT_ONCE // area, 1)
    in_tiles = area > PIXELS_AT_ONCE and isinstance(vae, AutoencoderKL)
    decoder = vae.tiled_decode if in_tiles else vae.decode
    pixels = [decoder(some).sample.float() for some in latents.split(several)]
    return (torch.cat(pixels) / 2 + 0.5).clamp(0, 1)


def encode(vae: Autoencoder, pixels: Tensor) -> Tensor:
    """(n, 3, height, width) pixels in 0..1 to (n, channels, h, w) latents.

    For a KL autoencoder the mean of the posterior is taken.
    """
    config = vae.config
    shift = getattr(config, "shift_factor", None) or 0.0
    shown = (pixels * 2 - 1).to(vae.device, vae.dtype)
    if isinstance(vae, AutoencoderTiny):
        latents = vae.encode(shown).latents
    elif pixels.shape[2:].numel() > PIXELS_AT_ONCE:
        latents, _ = vae._tiled_encode(shown).chunk(2, dim=1)
    else:
        latents = vae.encode(shown).latent_dist.mean
    return (latents - shift) * config.scaling_factor
