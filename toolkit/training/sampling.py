"""Plain sampling of one concept: what the grids of training show."""

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.errors import RunError
from toolkit.sampling import initial_noise


@torch.no_grad()
def sample(
    base: Base,
    prompt: str,
    words: Sequence[str],
    embeddings: Tensor,
    seeds: Sequence[int],
    size: tuple[int, int],
    steps: int,
    guidance_scale: float,
    negative_prompt: str = "",
) -> Tensor:
    """(seeds, channels, h, w) latents, by classifier-free guidance with DPM-Solver++.

    Runs under the base's `heard_by_layer`, and whatever LoRA is on the base acts.
    words, embeddings: the concept's tokens as the prompt writes them, and their
    (tokens, layers, dim) values. size: width and height in pixels.
    Raises RunError when the latents stop being finite.
    """
    positive = base.encode_prompts([base.tokenise(prompt, words)], embeddings)
    negative = base.encode_prompts([base.tokenise(negative_prompt)])
    encodings = torch.cat([negative, positive]).repeat_interleave(len(seeds), dim=0)
    scheduler = base.scheduler(steps)
    latents = initial_noise(base, *size, seeds) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        both = torch.cat([latents, latents])
        against, towards = base.predict(both, timestep, encodings).float().chunk(2)
        guided = against + guidance_scale * (towards - against)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    if not latents.isfinite().all():
        raise RunError("sampling gave values that are not finite")
    return latents
