"""Which families of models a LoRA can be for: by its names, its widths, and what it says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.families import (
    SD1,
    SD2,
    SDXL,
    SUPPORTED,
    family_in,
    family_of,
    has_one_text_encoder,
    hears_text,
)
from toolkit.errors import InputError

FAMILY_OF_WIDTH = {768: SD1, 1024: SD2}
"""The families of one text encoder, by its width."""

_FAMILY_HEARING = FAMILY_OF_WIDTH | {2048: SDXL}  # by the width of what cross-attention reads


def families_of_lora(content: Mapping[str, Any], metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The families that tensors of a LoRA can be for; none where nothing tells."""
    family = family_of(content)
    if family is not None:
        return (family,)
    widths = {
        tensor.shape[1]
        for name, tensor in content.items()
        if isinstance(tensor, Tensor) and tensor.ndim > 1 and hears_text(name)
    }
    hearing = {_FAMILY_HEARING[width] for width in widths if width in _FAMILY_HEARING}
    if len(hearing) == 1:
        return tuple(hearing)
    said = family_in(metadata)
    if has_one_text_encoder(content):
        return (said,) if said in (SD1, SD2) else (SD1, SD2)
    return () if said is None else (said,)


def check_family(
    content: Mapping[str, Any], metadata: Mapping[str, str], path: Path, base: Base
) -> None:
    """Raise InputError, naming both, for tensors that are for another family than `base` is of."""
    families = families_of_lora(content, metadata)
    if families and base.family not in families:
        raise other_family(path, families, base)


def other_family(path: Path, families: tuple[str, ...], base: Base) -> InputError:
    """What to say of a file that is for another family than `base` is of."""
    made_for = f"{path} is made for {' or '.join(families)}"
    if not {SD1, SD2, SDXL} & set(families):
        return InputError(f"{made_for}; only LoRAs of {SUPPORTED} can be read")
    return InputError(f"{made_for}; {base.name} is a {base.family}")
