"""What the files of a diffusers folder tell of a base, without loading it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.backbones.identity import Identity
from toolkit.backbones.sizes import Sizes
from toolkit.backbones.unet.stored_weights import Unknown, fingerprint_of_files
from toolkit.errors import InputError
from toolkit.text.files import read_text
from toolkit.text.json_values import read_json

GUIDANCE_DOWNSCALE = 4
"""Stable Diffusion's: 16 x 16 cells for 512 x 512 pixels."""
_PIXELS_WITHOUT_AUTOENCODER = 8

_UNET_KEYS = (
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "down_block_types",
    "up_block_types",
    "attention_head_dim",
)
_DEPTHS = "transformer_layers_per_block"
_TEXT_KEYS = ("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")


def sizes_of(unet_levels: int, vae_levels: int | None, guidance_downscale: int) -> Sizes:
    """The sizes of a base with so many levels in its U-Net, and in its autoencoder if it has one.

    Each level is half as high and wide as the one before.
    """
    pixels = _PIXELS_WITHOUT_AUTOENCODER if vae_levels is None else 2 ** (vae_levels - 1)
    return Sizes(pixels, pixels * 2 ** (unet_levels - 1), guidance_downscale)


def architecture_of(
    unet: Callable[[str], object],
    text_encoder: Callable[[str], object],
    text_encoder_2: Callable[[str], object] | None = None,
) -> str:
    """16 hex digits that are equal for bases whose LoRAs have the same shapes.

    unet, text_encoder, text_encoder_2: the value that a key has in their configurations.
    """
    facts = {key: unet(key) for key in _UNET_KEYS} | {key: text_encoder(key) for key in _TEXT_KEYS}
    if text_encoder_2 is not None:
        facts |= {f"{key}_2": text_encoder_2(key) for key in _TEXT_KEYS}
        facts[_DEPTHS] = unet(_DEPTHS)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Configuration:
    """A diffusers folder of a Stable Diffusion model, as its configuration files have it.

    text_encoder_2: None but for Stable Diffusion XL. vae: None for a model without an autoencoder.
    """

    folder: Path
    unet: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    vae: Mapping[str, Any] | None
    text_encoder_2: Mapping[str, Any] | None = None

    def sizes(self, guidance_downscale: int | None) -> Sizes | None:
        """The sizes of its grids; None where the files do not tell.

        guidance_downscale: None is Stable Diffusion's.
        """
        unet, vae = _levels(self.unet), None if self.vae is None else _levels(self.vae)
        if unet is None or (vae is None and self.vae is not None):
            return None
        return sizes_of(unet, vae, guidance_downscale or GUIDANCE_DOWNSCALE)

    def identity(self, name: str, dtype: str, overrides: str = "") -> Identity | None:
        """Which base it is once it is loaded in this type; None where the files do not tell.

        overrides: as `Identity` has them.
        Equal to what the loaded base says of itself wherever a file holds exactly its module's
        tensors; where it does not, the two differ.
        """
        second = self.text_encoder_2
        changed = ["unet", "text_encoder"] + ([] if second is None else ["text_encoder_2"])
        try:
            return Identity(
                name=name,
                architecture=architecture_of(
                    self.unet.__getitem__,
                    self.text_encoder.__getitem__,
                    None if second is None else second.__getitem__,
                ),
                weights=fingerprint_of_files([self.folder / part for part in changed], dtype),
                autoencoder=(
                    "" if self.vae is None else fingerprint_of_files([self.folder / "vae"], dtype)
                ),
                overrides=overrides,
            )
        except (KeyError, Unknown):
            return None


def read_configuration(path: str) -> Configuration | None:
    """The configuration of the base in a folder; None for a hub id, a file, and a broken folder.

    What is wrong with a folder is told by `source.check_local`, and when the base is loaded.
    """
    folder = Path(path)
    index = _read(folder / "model_index.json")
    unet = _read(folder / "unet" / "config.json")
    text_encoder = _read(folder / "text_encoder" / "config.json")
    if index is None or unet is None or text_encoder is None:
        return None
    others: dict[str, dict[str, Any] | None] = {"vae": None, "text_encoder_2": None}
    for part in others:
        named = index.get(part)
        if isinstance(named, list) and any(named):
            others[part] = _read(folder / part / "config.json")
            if others[part] is None:
                return None
    return Configuration(folder, unet, text_encoder, others["vae"], others["text_encoder_2"])


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content = read_json(read_text(file), str(file))
    except InputError:
        return None
    return content if isinstance(content, dict) else None


def _levels(config: Mapping[str, Any]) -> int | None:
    blocks = config.get("block_out_channels")
    return len(blocks) if isinstance(blocks, list) and blocks else None
