"""Plain sampling of the concept as it is being learned: what the grids of training show."""

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.backbones import Base, Encodings
from toolkit.methods.plain import Unguided
from toolkit.sampling import denoise, initial_noise


class Learning(Unguided):
    """Classifier-free guidance under encodings of one's own, and whatever LoRA is on the base.

    encodings: the negative prompt's and the prompt's. To be used under the base's
        `heard_by_layer`.
    """

    def __init__(self, base: Base, encodings: Encodings, guidance_scale: float) -> None:
        self.base, self.encodings, self.guidance_scale = base, encodings, guidance_scale

    def predict(self, latents: Tensor, number: int, timestep: Tensor) -> Tensor:
        """(pictures, channels, h, w) noise (or velocity)."""
        both = self.encodings.rows([side for side in (0, 1) for _ in latents])
        output = self.base.predict(latents.repeat(2, 1, 1, 1), timestep, both)
        negative, positive = output.float().chunk(2)
        return negative + self.guidance_scale * (positive - negative)


@torch.no_grad()
def sample(
    base: Base,
    positive: Encodings,
    seeds: Sequence[int],
    size: tuple[int, int],
    steps: int,
    guidance_scale: float,
    negative_prompt: str = "",
) -> Tensor:
    """(seeds, channels, h, w) latents, by classifier-free guidance with DPM-Solver++.

    Runs under the base's `heard_by_layer`, and whatever LoRA is on the base acts.
    positive: of one prompt. size: width and height in pixels.
    Raises RunError when the latents stop being finite.
    """
    negative = base.encode_prompts([base.tokenise(negative_prompt)])
    process = Learning(base, negative.followed_by(positive), guidance_scale)
    latents = initial_noise(base, *size, seeds)
    for step in denoise(base, process, latents, steps):
        latents = step.latents
    return latents
