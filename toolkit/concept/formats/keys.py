"""What one tensor of a LoRA file is, by its name."""

import re
from dataclasses import dataclass

from toolkit.backbones import Base, Part
from toolkit.backbones.unet.names import acts_in_places
from toolkit.errors import InputError


@dataclass(frozen=True)
class Key:
    """What one tensor of a LoRA file is.

    path: of the changed map, as the base calls it.
    role: `down`, `up` or `alpha`.
    """

    part: Part
    path: str
    role: str


class NoSuchMap(InputError):
    """A key that names a map which the base does not have."""


_ROLE = re.compile(
    r"(?P<module>.+?)(?:"
    r"\.lora_(?P<ab>[AB])(?:\.[^.]+)?\.weight"
    r"|[._]lora(?:_linear_layer)?[._](?P<side>down|up)\.weight"
    r"|\.(?P<alpha>alpha))"
)
_OTHER_METHODS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_mid": "LoCon with a core tensor",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "oft_": "OFT",
    ".diff": "full weight differences",
    ".w_norm": "full weight differences",
    ".on_input": "(IA)^3",
    "ia3_l": "(IA)^3",
    "lora_E": "AdaLoRA",
    "vera_lambda": "VeRA",
    ".scalar": "LyCORIS with a trained scale",
    ".bias": "LoRA that was trained with bias",
}


class KeyReader:
    """Finds the map of a base that a key of a LoRA file means."""

    def __init__(self, base: Base) -> None:
        """Know the maps that `base` has."""
        self._names = base.foreign_names()

    def read(self, key: str) -> Key:
        """What `key` is. Raises InputError for what cannot act on this base, saying why."""
        for mark, method in _OTHER_METHODS.items():
            if mark in key:
                raise InputError(f"it is a {method} ({key}); only plain LoRAs can be read")
        match = _ROLE.fullmatch(key)
        if match is None:
            raise InputError(f"{key} is no part of a LoRA")
        role = match["side"] or {"A": "down", "B": "up", None: "alpha"}[match["ab"]]
        found = self._names.find(match["module"])
        if found is None:
            if self._names.is_convolution(match["module"]):
                raise InputError(
                    f"it changes convolutions ({key}), which cannot act inside a box; only "
                    "LoRAs of attention and feed-forward maps can be read"
                )
            raise NoSuchMap(f"{key}: the base has no such map")
        part, path = found
        if not acts_in_places(part, path):
            raise InputError(
                f"it changes {path}, which acts on the whole picture at once and not inside a box"
            )
        return Key(part, path, role)
