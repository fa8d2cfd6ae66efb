"""What one tensor of a LoRA file is, by its name."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from toolkit.backbones import Base, Part
from toolkit.errors import InputError


@dataclass(frozen=True)
class Key:
    """What one tensor of a LoRA file is.

    path: of the changed map, as the base calls it.
    role: `down`, `up`, `mid`, `alpha`, `magnitude`, or what LyCORIS calls it, as `hada_w1_a`.
    """

    part: Part
    path: str
    role: str


class NoSuchMap(InputError):
    """A key that names a map which the base does not have."""


_ROLE = re.compile(
    r"(?P<module>.+?)(?:"
    r"\.lora_(?P<ab>[AB])(?:\.[^.]+)?\.(?P<of>weight|bias)"
    r"|[._]lora(?:_linear_layer)?[._](?P<side>down|up|mid)\.(?P<half>weight|bias)"
    r"|\.lora_(?P<magnitude>magnitude_vector)(?:\.[^.]+)*"
    r"|(?:\.base_layer)?\.(?P<bias>bias)"
    r"|\.(?P<plain>alpha|dora_scale|diff|diff_b|w_norm|b_norm|on_input|ia3_l"
    r"|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))(?:\.default)?"
    r"|\.(?P<factors>weight))"
)
_OTHER_METHODS = {
    "oft_": "OFT",
    "lora_E": "AdaLoRA",
    "vera_lambda": "VeRA",
    ".scalar": "LyCORIS with a trained scale",
    ".a1.weight": "GLoRA",
}
KINDS = "LoRA, LoCon, DoRA, LoHa, LoKr, (IA)^3 and full differences"
"""The kinds of changes that can be read, in words."""


class KeyReader:
    """Finds the map of a base that a key of a LoRA file means."""

    def __init__(self, base: Base, keys: Collection[str]) -> None:
        """Know the maps that `base` has, and all keys of the file."""
        self._names = base.foreign_names()
        self._multiplied = {
            key.removesuffix(".on_input") for key in keys if key.endswith(".on_input")
        }

    def read(self, key: str) -> Key:
        """What `key` is. Raises InputError for what cannot act on this base, saying why."""
        for mark, method in _OTHER_METHODS.items():
            if mark in key:
                raise InputError(f"it is a {method} ({key}); only {KINDS} can be read")
        match = _ROLE.fullmatch(key)
        if match is None or (match["factors"] and match["module"] not in self._multiplied):
            raise InputError(f"{key} is no part of a LoRA")
        found = self._names.find(match["module"])
        if found is None:
            raise NoSuchMap(f"{key}: the base has no such map")
        return Key(*found, _role_of(match))


def _role_of(match: re.Match[str]) -> str:
    half = match["side"] or {"A": "down", "B": "up", None: ""}[match["ab"]]
    if half:
        return f"{half}_bias" if "bias" in (match["of"], match["half"]) else half
    if match["magnitude"]:
        return "magnitude"
    return match["bias"] or match["plain"] or match["factors"]
