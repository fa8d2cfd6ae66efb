"""A loss that tells two trainings apart: the same pictures, noises and timesteps each time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor
from transformers import CLIPTokenizer

from .bank import cells, encode
from .drawing import draw_chunk
from .scenes import Painter, SceneKind
from .text_to_image import TextToImage, token_ids, velocity_errors

CANVASES = {
    "one": SceneKind(128, 128, 1, 1, 64, 112, 0.7),
    "two": SceneKind(256, 128, 2, 2, 76, 112, 0.7),
    "three": SceneKind(384, 128, 3, 3, 76, 112, 0.7),
    "four": SceneKind(256, 256, 4, 4, 76, 112, 0.7),
    "five": SceneKind(384, 256, 5, 5, 76, 112, 0.7),
}
PIECE = 256  # pictures of 128 x 128 in one pass on a GPU


@dataclass(frozen=True)
class Held:
    """Pictures of one canvas: latents (n, 8, h, w), token ids, captions, timesteps, noise seed."""

    latents: Tensor
    ids: Tensor
    captions: list[str]
    timesteps: Tensor
    piece: int
    seed: int


class Validation:
    """Fixed pictures of every canvas, drawn anew from the same seed wherever they are needed."""

    def __init__(
        self, painter: Painter, vae: AutoencoderTiny, tokenizer: CLIPTokenizer, count: int
    ) -> None:
        """count: pictures of each canvas."""
        self.names = painter.names
        self.held: dict[str, Held] = {}
        for seed, (name, kind) in enumerate(CANVASES.items()):
            rng = np.random.default_rng([2026, seed])
            latents, captions = [], []
            for start in range(0, count, 64):
                pixels, said = draw_chunk(painter, kind, min(64, count - start), rng)
                latents.append(encode(vae, pixels))
                captions += said
            timesteps = torch.from_numpy(rng.permutation(count)).to(vae.device) * 1000 // count
            ids = token_ids(tokenizer, captions).to(vae.device)
            piece = max(1, 4 * (PIECE if vae.device.type == "cuda" else 8) // cells(kind))
            self.held[name] = Held(torch.cat(latents), ids, captions, timesteps, piece, seed)

    @torch.no_grad()
    def errors(self, model: TextToImage, schedule: DDPMScheduler, name: str) -> Tensor:
        """(n,) squared errors of one canvas, on the CPU."""
        held = self.held[name]
        noise = torch.randn(
            held.latents.shape, generator=torch.Generator().manual_seed(held.seed)
        ).to(held.latents.device)
        device = held.latents.device.type
        found = []
        for start in range(0, len(noise), held.piece):
            some = slice(start, start + held.piece)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                errors = velocity_errors(
                    model.unet,
                    schedule,
                    held.latents[some].float(),
                    model.text_encoder(held.ids[some]).last_hidden_state,
                    noise[some],
                    held.timesteps[some],
                )
            found.append(errors.cpu())
        return torch.cat(found)

    def losses(self, model: TextToImage, schedule: DDPMScheduler) -> dict[str, float]:
        """The mean error of every canvas, and of all."""
        means = {name: float(self.errors(model, schedule, name).mean()) for name in self.held}
        return means | {"mean": sum(means.values()) / len(means)}

    def by_name(self, model: TextToImage, schedule: DDPMScheduler) -> dict[str, float]:
        """The mean error of the pictures of one object, by the object's name."""
        errors = self.errors(model, schedule, "one")
        captions = self.held["one"].captions
        shown = {
            name: [bool(re.search(rf"\b{name}\b", caption)) for caption in captions]
            for name in self.names
        }
        return {name: float(errors[torch.tensor(of)].mean()) for name, of in shown.items()}


def rounded(losses: dict[str, Any], digits: int = 4) -> dict[str, Any]:
    """The same with its numbers rounded, for people and for JSON."""
    return {k: round(v, digits) if isinstance(v, float) else v for k, v in losses.items()}
