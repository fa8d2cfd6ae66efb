"""Load a Stable Diffusion model: a diffusers folder, a hub id or a single file."""

from collections.abc import Collection, Sequence
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
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from toolkit.backbones.families import SDXL
from toolkit.backbones.identity import overrides_of
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
    guidance_layers: Sequence[int] | None = None,
    prediction_type: str | None = None,
    waiting: Collection[str] = (),
) -> Base:
    """Load a base from a diffusers folder, a hub id, or a single `.safetensors` checkpoint.

    guidance_downscale: None is Stable Diffusion's. guidance_layers, compiled, waiting:
        see `Base`.
    prediction_type: "epsilon" or "v_prediction"; None: what the files say.

    Raises InputError when there is no such model, or its U-Net has no attention at the guidance
    grid.
    """
    try:
        source = find_source(str(path))
        parts = _from_file(source, dtype) if source.is_file else _from_folder(source.path, dtype)
        _check_parts(parts, str(path))
    except InputError as error:
        raise InputError(f"cannot load the base model: {error}") from error
    except Exception as error:  # the libraries raise all kinds for damaged and incomplete folders
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"cannot load the base model {path}: {reason}") from error
    scheduler_config = parts.scheduler_config
    if prediction_type is not None:
        scheduler_config = scheduler_config | {"prediction_type": prediction_type}
    unet, text_encoder, second, vae = parts.unet, parts.text_encoder, parts.second, parts.vae
    changed = [unet, text_encoder] + ([] if second is None else [second.text_encoder])
    for module in (*changed, *([] if vae is None else [vae])):
        module.requires_grad_(False).eval()
    base = Base(
        name=name,
        tokenizer=parts.tokenizer,
        text_encoder=text_encoder,
        unet=unet,
        vae=_as_precise_as_needed(vae, dtype) if second is not None else vae,
        scheduler_config=scheduler_config,
        guidance_downscale=guidance_downscale or GUIDANCE_DOWNSCALE,
        architecture=architecture_fingerprint(
            unet, text_encoder, None if second is None else second.text_encoder
        ),
        weights=weights_fingerprint(*changed),
        tokenizer_2=None if second is None else second.tokenizer,
        text_encoder_2=None if second is None else second.text_encoder,
        zeros_for_no_negative=second is not None and second.zeros_for_no_negative,
        guidance_layers=None if guidance_layers is None else tuple(guidance_layers),
        overrides=overrides_of(prediction_type, guidance_layers),
        compiled=compiled,
        waiting=frozenset(waiting),
    )
    for network in base.networks.values():
        network.to(device)
    _check_guidance(base)
    return base


@dataclass(frozen=True)
class _Second:
    """What Stable Diffusion XL has besides: see `Base`."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModelWithProjection
    zeros_for_no_negative: bool


@dataclass(frozen=True)
class _Parts:
    """What a base is made of."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    second: _Second | None
    unet: UNet2DConditionModel
    vae: AutoencoderKL | AutoencoderTiny | None
    scheduler_config: dict[str, Any]


def _from_file(source: Source, dtype: torch.dtype) -> _Parts:
    kind = StableDiffusionXLPipeline if source.family == SDXL else StableDiffusionPipeline
    with named_safetensors(Path(source.path)) as file:
        pipeline = kind.from_single_file(file, config=source.config, torch_dtype=dtype)
    second = None
    if source.family == SDXL:
        second = _Second(
            pipeline.tokenizer_2,
            pipeline.text_encoder_2,
            bool(pipeline.config.force_zeros_for_empty_prompt),
        )
    return _Parts(
        pipeline.tokenizer,
        pipeline.text_encoder,
        second,
        pipeline.unet,
        pipeline.vae,
        dict(pipeline.scheduler.config) | _marked(source),
    )


def _marked(source: Source) -> dict[str, Any]:
    """What a single file's markers change of its scheduler's config.

    A schedule that ends in pure noise is sampled from its very last timestep on
    (arXiv 2305.08891, section 3.3), which "trailing" does.
    """
    changed: dict[str, Any] = {}
    if "v_pred" in source.markers:
        changed["prediction_type"] = "v_prediction"
    if "ztsnr" in source.markers:
        changed |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return changed


def _from_folder(path: str, dtype: torch.dtype) -> _Parts:
    """From a folder or a hub id."""
    index = DiffusionPipeline.load_config(path)
    check_index(index, path)
    second = None
    if any(index.get("text_encoder_2") or ()):
        second = _Second(
            CLIPTokenizer.from_pretrained(path, subfolder="tokenizer_2"),
            CLIPTextModelWithProjection.from_pretrained(
                path, subfolder="text_encoder_2", dtype=dtype
            ),
            bool(index.get("force_zeros_for_empty_prompt", True)),
        )
    return _Parts(
        CLIPTokenizer.from_pretrained(path, subfolder="tokenizer"),
        CLIPTextModel.from_pretrained(path, subfolder="text_encoder", dtype=dtype),
        second,
        UNet2DConditionModel.from_pretrained(path, subfolder="unet", torch_dtype=dtype),
        _load_autoencoder(path, index, dtype),
        DPMSolverMultistepScheduler.load_config(path, subfolder="scheduler"),
    )


def _check_parts(parts: _Parts, path: str) -> None:
    """Raise InputError for a U-Net that needs other than latents and what these encoders say."""
    config, second = parts.unet.config, parts.second
    if config.in_channels != config.out_channels:
        raise InputError(
            f"{path} is an inpainting or editing model: its U-Net reads {config.in_channels} "
            f"channels and gives {config.out_channels}"
        )
    wanted = None if second is None else "text_time"
    if config.addition_embed_type != wanted:
        raise InputError(
            f"{path}: its U-Net is told {config.addition_embed_type} beside the prompt, where one "
            f"with {1 if second is None else 2} text encoders is told {wanted}"
        )
    width = parts.text_encoder.config.hidden_size
    if second is not None:
        width += second.text_encoder.config.hidden_size
        if parts.tokenizer.get_vocab() != second.tokenizer.get_vocab():
            raise InputError(f"{path}: its two tokenizers have different words")
    if config.cross_attention_dim != width:
        raise InputError(
            f"{path}: its U-Net reads text {config.cross_attention_dim} wide, and its text encoder "
            f"gives {width}"
        )


def _check_guidance(base: Base) -> None:
    """Raise InputError when no map, or none that was asked for, is at the guidance grid."""
    there = {n.transformer for n in base.layers if n.downscale == base.guidance_downscale}
    if not there:
        have = sorted({layer.downscale for layer in base.layers})
        raise InputError(
            f"base {base.name} has no attention at guidance_downscale={base.guidance_downscale}; "
            f"take one of {have}"
        )
    asked = base.guidance_layers
    if asked is not None and not (asked and set(asked) <= there):
        raise InputError(
            f"model.guidance_layers={list(asked)}: base {base.name} has the transformers "
            f"{sorted(there)} at its guidance grid; take one or several of them"
        )


def _as_precise_as_needed(vae: Any, dtype: torch.dtype) -> Any:
    """The autoencoder in float32 where its config says that float16 overflows in it."""
    overflows = vae is not None and dtype is torch.float16 and vae.config.force_upcast
    return vae.float() if overflows else vae


def _load_autoencoder(path: str, index: dict[str, Any], dtype: torch.dtype) -> Any:
    """The model's autoencoder, or None where it has none."""
    _, class_name = index.get("vae") or (None, None)
    if class_name is None:
        return None
    if class_name not in _AUTOENCODERS:
        raise ValueError(f"its autoencoder is a {class_name}; known: {sorted(_AUTOENCODERS)}")
    return _AUTOENCODERS[class_name].from_pretrained(path, subfolder="vae", torch_dtype=dtype)
