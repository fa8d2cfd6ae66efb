"""Paint by Example's own parts, through diffusers: pictures painted into boxes, one by one."""

from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    PaintByExamplePipeline,
    PNDMScheduler,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor

from toolkit.errors import InputError
from toolkit.images.pictures import read_picture
from toolkit.layout.areas import Area
from toolkit.layout.layout import Box
from toolkit.layout.masks import area_masks


@lru_cache(maxsize=1)
def load_painter(path: str, device: torch.device) -> Any:
    """The pipeline, of parts that are loaded one by one: as a whole diffusers no longer finds them.

    Its safety checker is left out, which would replace pictures by black ones.
    Raises InputError where the checkpoint is none.
    """
    # It stands beside the pipeline, whose place changes with diffusers' versions.
    image_encoder = import_module(PaintByExamplePipeline.__module__).PaintByExampleImageEncoder
    local = Path(path).expanduser()
    place = str(local) if local.exists() else path
    try:
        painter = PaintByExamplePipeline(
            vae=AutoencoderKL.from_pretrained(place, subfolder="vae"),
            image_encoder=image_encoder.from_pretrained(place, subfolder="image_encoder"),
            unet=UNet2DConditionModel.from_pretrained(place, subfolder="unet"),
            scheduler=PNDMScheduler.from_pretrained(
                place, subfolder="scheduler", skip_prk_steps=True
            ),
            safety_checker=None,
            feature_extractor=CLIPImageProcessor.from_pretrained(
                place, subfolder="feature_extractor"
            ),
        )
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"cannot load Paint by Example from {path}: {reason}") from error
    painter.set_progress_bar_config(disable=True)
    return painter.to(device)


def paint(
    painter: Any,
    pixels: Tensor,
    subjects: Sequence[tuple[Box, Path]],
    seed: int,
    steps: int,
    guidance_scale: float,
) -> Tensor:
    """(3, height, width) in 0..1 with each subject painted into its box, one after the other.

    subjects: a box, and the picture of what is painted there, which is squeezed to a square as the
    published code does it. All else is drawn anew by the autoencoder each time.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    crop = painter.feature_extractor.crop_size
    for box, exemplar in subjects:
        shown = read_picture(exemplar).resize(
            (crop["width"], crop["height"]), Image.Resampling.BICUBIC
        )
        mask = area_masks([Area(box)], *pixels.shape[1:])
        painted: Tensor = painter(
            example_image=shown,
            image=pixels[None] * 2 - 1,
            mask_image=mask[None].to(pixels.device),
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=generator,
            output_type="pt",
        ).images[0]
        pixels = painted.float().clamp(0, 1)
    return pixels
