"""LoRAs by kohya's tools, diffusers and PEFT."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.backbones.low_rank import LowRank
from toolkit.concept.formats.keys import Key, KeyReader, NoSuchMap
from toolkit.concept.formats.scale import scales_of
from toolkit.errors import InputError

log = logging.getLogger(__name__)


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
    found = _halves(tensors, base, path)
    changes: dict[Part, dict[str, LowRank]] = {part: {} for part in Part}
    told = any("alpha" not in halves for halves in found.values())
    scales = scales_of(metadata, adapter, path) if told else {}
    still = []
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
        if "alpha" in halves:
            scale = float(halves["alpha"]) / rank
        else:
            scale = scales[part].of(module, rank)
        if scale == 0:
            still.append(module)
        pair = LowRank(down.float(), up.float() * scale)
        if not (pair.down.isfinite().all() and pair.up.isfinite().all()):
            raise InputError(f"{path}: values of {module} are too large for a number of 32 bits")
        changes[part][module] = pair
    if still and len(still) == len(found):
        raise InputError(
            f"{path} would change nothing: its alpha is 0. Set it to the number that it was "
            "trained with, or to its rank"
        )
    if still:
        log.warning("%s: alpha is 0 for %d of %d maps", path, len(still), len(found))
    return changes


def _halves(
    tensors: Mapping[str, Tensor], base: Base, path: Path
) -> dict[tuple[Part, str], dict[str, Tensor]]:
    """The tensors by the map that they change and their role."""
    reader = KeyReader(base)
    found: dict[tuple[Part, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        try:
            key = reader.read(name)
        except NoSuchMap as error:
            raise InputError(
                f"{path} cannot be read: it is made for another model than {base.name}, a "
                f"{base.family}, or damaged: {error}"
            ) from error
        except InputError as error:
            raise InputError(f"{path} cannot be read: {error}") from error
        halves = found.setdefault((key.part, key.path), {})
        if key.role in halves:
            raise InputError(f"{path}: {key.path} stands in it twice")
        halves[key.role] = _as_matrix(tensor, key, path)
    return found


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
