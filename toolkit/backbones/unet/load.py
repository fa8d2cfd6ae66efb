"""Load a Stable Diffusion 1.x model: a diffusers folder, a hub id or a single file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from toolkit.backbones.source import Source, check_index, find_source, named_safetensors
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.configuration import GUIDANCE_DOWNSCALE
from toolkit.backbones.unet.fingerprint import architecture_fingerprint, weights_fingerprint
from toolkit.errors import InputError

_AUTOENCODERS: dict[str, Any] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
}


def load_base(
    path: str | Path,
    name: str,
    guidance_downscale: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
) -> Base:
    """Load a base from a diffusers folder, a hub id, or a single `.safetensors` checkpoint.

    guidance_downscale: None is Stable Diffusion's. compiled: see `Base`.

    Raises InputError when there is no such model, or its U-Net has no attention at the guidance
    grid.
    """
    guidance_downscale = guidance_downscale or GUIDANCE_DOWNSCALE
    try:
        source = find_source(str(path))
        parts = _from_file(source, dtype) if source.is_file else _from_folder(source.path, dtype)
        _check_parts(parts, str(path))
    except InputError as error:
        raise InputError(f"cannot load the base model: {error}") from error
    except Exception as error:  # the libraries raise all kinds for damaged and incomplete folders
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"cannot load the base model {path}: {reason}") from error
    unet, text_encoder, vae = parts.unet, parts.text_encoder, parts.vae
    modules = [module for module in (text_encoder, unet, vae) if module is not None]
    for module in modules:
        module.requires_grad_(False).eval().to(device)
    base = Base(
        name=name,
        tokenizer=parts.tokenizer,
        text_encoder=text_encoder,
        unet=unet,
        vae=vae,
        scheduler_config=parts.scheduler_config,
        guidance_downscale=guidance_downscale,
        architecture=architecture_fingerprint(unet, text_encoder),
        weights=weights_fingerprint(unet, text_encoder),
        compiled=compiled,
    )
    if all(layer.downscale != guidance_downscale for layer in base.layers):
        have = sorted({layer.downscale for layer in base.layers})
        raise InputError(
            f"base {name} has no attention at guidance_downscale={guidance_downscale}; take one "
            f"of {have}"
        )
    return base


@dataclass(frozen=True)
class _Parts:
    """What a base is made of."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL | AutoencoderTiny | None
    scheduler_config: dict[str, Any]


def _from_file(source: Source, dtype: torch.dtype) -> _Parts:
    with named_safetensors(Path(source.path)) as file:
        pipeline = StableDiffusionPipeline.from_single_file(
            file, config=source.config, torch_dtype=dtype
        )
    return _Parts(
        pipeline.tokenizer,
        pipeline.text_encoder,
        pipeline.unet,
        pipeline.vae,
        dict(pipeline.scheduler.config),
    )


def _from_folder(path: str, dtype: torch.dtype) -> _Parts:
    """From a folder or a hub id."""
    index = DiffusionPipeline.load_config(path)
    check_index(index, path)
    return _Parts(
        CLIPTokenizer.from_pretrained(path, subfolder="tokenizer"),
        CLIPTextModel.from_pretrained(path, subfolder="text_encoder", dtype=dtype),
        UNet2DConditionModel.from_pretrained(path, subfolder="unet", torch_dtype=dtype),
        _load_autoencoder(path, index, dtype),
        DPMSolverMultistepScheduler.load_config(path, subfolder="scheduler"),
    )


def _check_parts(parts: _Parts, path: str) -> None:
    """Raise InputError for a U-Net that needs more than latents and this text encoder."""
    config = parts.unet.config
    if config.addition_embed_type is not None:
        raise InputError(f"{path} is a Stable Diffusion XL model; only 1.x can be used as a base")
    if config.in_channels != config.out_channels:
        raise InputError(
            f"{path} is an inpainting or editing model: its U-Net reads {config.in_channels} "
            f"channels and gives {config.out_channels}"
        )
    width = parts.text_encoder.config.hidden_size
    if config.cross_attention_dim != width:
        raise InputError(
            f"{path}: its U-Net reads text {config.cross_attention_dim} wide, and its text encoder "
            f"gives {width}"
        )


def _load_autoencoder(path: str, index: dict[str, Any], dtype: torch.dtype) -> Any:
    """The model's autoencoder, or None where it has none."""
    _, class_name = index.get("vae") or (None, None)
    if class_name is None:
        return None
    if class_name not in _AUTOENCODERS:
        raise ValueError(f"its autoencoder is a {class_name}; known: {sorted(_AUTOENCODERS)}")
    return _AUTOENCODERS[class_name].from_pretrained(path, subfolder="vae", torch_dtype=dtype)
