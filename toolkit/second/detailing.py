"""Small regions refined by themselves: cut out, enlarged, drawn by their concepts, put back."""

from collections.abc import Generator, Mapping, Sequence

import torch
from torch import Tensor

from toolkit.backbones import Base, Conditioning
from toolkit.concept import Concept
from toolkit.layout.layout import Layout
from toolkit.methods.method import Method
from toolkit.methods.plain import Plain
from toolkit.methods.reading import encode
from toolkit.sampling import Step, denoise_again, initial_noise
from toolkit.second.blending import blend_weights
from toolkit.second.crops import Crop
from toolkit.second.plan import steps_of
from toolkit.second.resizing import resized


def condition_crop(
    base: Base, method: Method, layout: Layout, concepts: Mapping[str, Concept], crop: Crop
) -> Conditioning:
    """A region's prompt alone on a canvas of its own, drawn by its own concept and nothing else."""
    region = layout.regions[crop.region]
    width, height = crop.size
    canvas = Layout(layout.name, layout.prompt, width, height)
    return encode(base, canvas, method.alone(layout, region, concepts))


@torch.no_grad()
def detail(
    base: Base,
    layout: Layout,
    crops: Sequence[tuple[Crop, Conditioning]],
    pixels: Tensor,
    seed: int,
    steps: int,
    strength: float,
    guidance_scale: float,
) -> Generator[Step, None, Tensor]:
    """Refine regions of a picture, step by step; gives the whole, (3, height, width) in 0..1.

    layout: in the picture's size. Every cut is of the picture as it was, so their order does not
    matter: what the nearest region holds becomes the nearest's.
    """
    count = steps_of(steps, strength)
    weights = blend_weights(layout, base.pixels_per_latent)
    whole = pixels.clone()
    for crop, conditioning in crops:
        left, top, right, bottom = crop.box
        region = layout.regions[crop.region]
        scale = guidance_scale if region.guidance_scale is None else region.guidance_scale
        cut = pixels[:, top:bottom, left:right]
        latents = base.encode(resized(cut, *crop.size)[None].to(base.device)).float()
        noise = initial_noise(base, *crop.size, [seed])
        process = Plain(base, [conditioning], scale)
        for step in denoise_again(base, process, latents, noise, steps, steps - count):
            latents = step.latents
            yield step
        drawn = resized(base.decode(latents)[0].cpu(), right - left, bottom - top)
        weight = weights[crop.region, top:bottom, left:right]
        whole[:, top:bottom, left:right] += weight * (drawn - cut)
    return whole.clamp(0, 1)
