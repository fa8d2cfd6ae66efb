"""LoRAs by kohya's tools, LyCORIS, diffusers and PEFT."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.backbones.map_change import MapChange, maps_of
from toolkit.concept.formats.keys import KeyReader, NoSuchMap
from toolkit.concept.formats.matrices import Scale
from toolkit.concept.formats.of_map import change_of_map
from toolkit.concept.formats.scale import scales_of
from toolkit.errors import InputError

log = logging.getLogger(__name__)


def read_lora(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    adapter: Mapping[str, Any],
    base: Base,
    path: Path,
) -> dict[Part, dict[str, MapChange]]:
    """The changes of text encoders and U-Net, scaled as their file says.

    A product is multiplied with alpha / rank: kohya's `alpha` tensors, diffusers' metadata, or
    PEFT's adapter_config.json (`adapter`) tell alpha; without any it is the rank.
    Raises InputError when a part is missing, of another shape, or cannot act on `base`.
    """
    found = _by_map(tensors, base, path)
    changes: dict[Part, dict[str, MapChange]] = {part: {} for part in Part}
    told = any("alpha" not in own for own in found.values())
    scales = scales_of(metadata, adapter, path) if told else {}
    with base.lock:
        maps = {part: maps_of(network) for part, network in base.parts.items()}
    still = []
    for (part, module), own in found.items():
        scale = Scale(own["alpha"]) if "alpha" in own else Scale(None, scales[part], module)
        if scale.is_nothing:
            still.append(module)
        change = change_of_map(own, maps[part][module], scale, f"{path}: {module}")
        if not all(tensor.isfinite().all() for tensor in change.tensors.values()):
            raise InputError(f"{path}: values of {module} are too large for a number of 32 bits")
        changes[part][module] = change
    if still and len(still) == len(found):
        raise InputError(
            f"{path} would change nothing: its alpha is 0. Set it to the number that it was "
            "trained with, or to its rank"
        )
    if still:
        log.warning("%s: alpha is 0 for %d of %d maps", path, len(still), len(found))
    return changes


def _by_map(
    tensors: Mapping[str, Tensor], base: Base, path: Path
) -> dict[tuple[Part, str], dict[str, Tensor]]:
    """The tensors by the map that they change and their role."""
    reader = KeyReader(base, tensors)
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
        own = found.setdefault((key.part, key.path), {})
        if key.role in own:
            raise InputError(f"{path}: {key.path} stands in it twice")
        if key.role == "alpha" and tensor.numel() != 1:
            raise InputError(f"{path}: alpha of {key.path} is not one number")
        own[key.role] = tensor
    return found
