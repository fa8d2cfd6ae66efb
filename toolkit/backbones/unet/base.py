"""Load a Stable Diffusion 1.x model: a diffusers folder, a hub id or a single file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock
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
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from toolkit.backbones.low_rank import linear_maps
from toolkit.backbones.source import Source, check_index, find_source, named_safetensors
from toolkit.backbones.unet.attention import install
from toolkit.backbones.unet.fingerprint import architecture_fingerprint, weights_fingerprint
from toolkit.backbones.unet.sites import AttentionLayer, attention_layers
from toolkit.errors import InputError

_AUTOENCODERS: dict[str, Any] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
}


@dataclass(frozen=True)
class Base:
    """A frozen text-to-image model; nothing in it is ever changed by training or composing.

    guidance_downscale: the latent's height divided by that of the grid at which LoRA-Composer reads
        its attention maps (4 for SD 1.5).
    vae: None for a model without one; pictures can then not be made, latents can.
    compiled: denoising passes are compiled as one graph, which the first of them waits for.
    lock: held by whoever has a module of the base behave otherwise for a while, and by every pass.
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
    compiled: bool = False
    lock: RLock = field(default_factory=RLock, repr=False, compare=False)

    def __post_init__(self) -> None:
        install(self.unet, self.layers)

    @cached_property
    def denoiser(self) -> Callable[..., Any]:
        """The U-Net as denoising passes call it."""
        return torch.compile(self.unet, fullgraph=True) if self.compiled else self.unet

    @cached_property
    def linears(self) -> Mapping[str, nn.Module]:
        """The U-Net's linear maps by path."""
        return linear_maps(self.unet)

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
    def text_width(self) -> int:
        """Of what cross-attention reads."""
        return int(self.unet.config.cross_attention_dim)

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

    def latent_size(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of latents for a canvas in pixels."""
        return height // self.pixels_per_latent, width // self.pixels_per_latent

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


def load_base(
    path: str | Path,
    name: str,
    guidance_downscale: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Base:
    """Load a base from a diffusers folder, a hub id, or a single `.safetensors` checkpoint.

    guidance_downscale: None is Stable Diffusion's.

    Raises InputError when there is no such model, or its U-Net has no attention at the guidance
    grid.
    """
    guidance_downscale = guidance_downscale or 4
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
