"""LoRAs by kohya's tools, diffusers and PEFT."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.base import Base
from toolkit.concept.concept import LowRank
from toolkit.concept.formats.keys import Key, KeyReader, Part
from toolkit.errors import InputError


def read_lora(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    adapter: Mapping[str, Any],
    base: Base,
    path: Path,
) -> dict[Part, dict[str, LowRank]]:
    """The low-rank changes of text encoder and U-Net, scaled as their file says.

    A product is multiplied with alpha / rank: kohya's `alpha` tensors, diffusers' metadata, or
    PEFT's adapter_config.json (`adapter`) tell alpha; without any it is the rank.
    Raises InputError when a part is missing, of another shape, or cannot act on `base`.
    """
    reader = KeyReader(base)
    found: dict[tuple[Part, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        try:
            key = reader.read(name)
        except InputError as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        halves = found.setdefault((key.part, key.path), {})
        if key.role in halves:
            raise InputError(f"{path}: {key.path} stands in it twice")
        halves[key.role] = _as_matrix(tensor, key, path)
    changes: dict[Part, dict[str, LowRank]] = {part: {} for part in Part}
    alphas = _Alphas(metadata, adapter, path)
    for (part, module), halves in found.items():
        if not {"down", "up"} <= set(halves):
            raise InputError(f"{path}: {module} lacks one half of its LoRA")
        down, up = halves["down"], halves["up"]
        if down.shape[0] != up.shape[1]:
            raise InputError(
                f"{path}: the halves of {module} are {tuple(down.shape)} and {tuple(up.shape)}, "
                "which do not fit each other"
            )
        rank = down.shape[0]
        alpha = float(halves["alpha"]) if "alpha" in halves else alphas.of(part, rank)
        changes[part][module] = LowRank(down.float(), up.float() * (alpha / rank))
    return changes


def _as_matrix(tensor: Tensor, key: Key, path: Path) -> Tensor:
    """(out, in), from a map or a convolution of 1 x 1; a single number for alpha."""
    if key.role == "alpha":
        if tensor.numel() != 1:
            raise InputError(f"{path}: alpha of {key.path} is not one number")
        return tensor.reshape(())
    if tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        tensor = tensor[:, :, 0, 0]
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise InputError(f"{path}: {key.path} has the shape {tuple(tensor.shape)}, not two sides")
    return tensor


class _Alphas:
    """alpha where the file keeps it apart from its tensors."""

    def __init__(self, metadata: Mapping[str, str], adapter: Mapping[str, Any], path: Path) -> None:
        self._told: dict[str, Any] = {}
        if metadata.get("lora_adapter_metadata"):
            try:
                self._told = dict(json.loads(metadata["lora_adapter_metadata"]))
            except (ValueError, TypeError) as error:
                raise InputError(f"{path}: its LoRA metadata is damaged") from error
        self._adapter = adapter

    def of(self, part: Part, rank: int) -> float:
        """alpha of a part whose maps have this rank."""
        for told in (self._told.get(f"{part}.lora_alpha"), self._adapter.get("lora_alpha")):
            if isinstance(told, int | float) and not isinstance(told, bool):
                return float(told)
        return float(rank)
