"""The names that other programs give to the parts of a LoRA."""

import re
from dataclasses import dataclass
from enum import StrEnum

from torch import nn

from toolkit.backbones import Base
from toolkit.backbones.low_rank import linear_maps
from toolkit.errors import InputError


class Part(StrEnum):
    """Which network a change belongs to."""

    UNET = "unet"
    TEXT_ENCODER = "text_encoder"


@dataclass(frozen=True)
class Key:
    """What one tensor of a LoRA file is.

    path: of the changed map, without a leading `text_model.`.
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
# Stable Diffusion's first code names its blocks by their number in one list.
_NUMBERED_CONVOLUTION = re.compile(
    r"(input|output)_blocks_\d+_\d_(in_layers|out_layers|skip|conv|op)|middle_block_[02]_"
)
_NUMBERED = re.compile(r"(?P<half>input|output)_blocks_(?P<number>\d+)_1_")


class KeyReader:
    """Finds the map of a base that a key of a LoRA file means."""

    def __init__(self, base: Base) -> None:
        """Know the maps that `base` has."""
        self._paths = {
            Part.UNET: set(linear_maps(base.unet)),
            Part.TEXT_ENCODER: set(linear_maps(base.text_encoder)),
        }
        self._flat = {
            part: {path.replace(".", "_"): path for path in paths}
            for part, paths in self._paths.items()
        }
        self._others = {
            name.replace(".", "_")
            for name, module in base.unet.named_modules()
            if isinstance(module, nn.Conv2d) and name not in self._paths[Part.UNET]
        }

    def read(self, key: str) -> Key:
        """What `key` is. Raises InputError for what cannot act on this base, saying why."""
        for mark, method in _OTHER_METHODS.items():
            if mark in key:
                raise InputError(f"it is a {method} ({key}); only plain LoRAs can be read")
        match = _ROLE.fullmatch(key)
        if match is None:
            raise InputError(f"{key} is no part of a LoRA")
        role = match["side"] or {"A": "down", "B": "up", None: "alpha"}[match["ab"]]
        found = self._find(match["module"])
        if found is None:
            if _acts_on_the_whole(match["module"]) or self._is_convolution(match["module"]):
                raise InputError(
                    f"it changes convolutions ({key}), which cannot act inside a box; only "
                    "LoRAs of attention and feed-forward maps can be read"
                )
            raise NoSuchMap(f"{key}: the base has no such map")
        part, path = found
        if part is Part.UNET and ".attentions." not in path:
            raise InputError(
                f"it changes {path}, which acts on the whole picture at once and not inside a box"
            )
        return Key(part, path, role)

    def _is_convolution(self, module: str) -> bool:
        return module.replace(".", "_").removeprefix("lora_unet_") in self._others

    def _find(self, module: str) -> tuple[Part, str] | None:
        if module.startswith("diffusion_model."):  # ComfyUI's name for the U-Net
            module = f"lora_unet_{module.removeprefix('diffusion_model.').replace('.', '_')}"
        for prefix, part in (
            ("lora_unet_", Part.UNET),
            ("lora_te1_", Part.TEXT_ENCODER),
            ("lora_te_", Part.TEXT_ENCODER),
        ):
            if module.startswith(prefix):
                flat = _renumbered(module.removeprefix(prefix)).removeprefix("text_model_")
                path = self._flat[part].get(flat)
                return None if path is None else (part, path)
        module = module.removeprefix("base_model.model.")
        for part in Part:
            named = module.removeprefix(f"{part}.").replace(".processor.", ".")
            named = named.removeprefix("text_model.")
            for path in _spellings(named, part):
                if path in self._paths[part]:
                    return part, path
        return None


def _acts_on_the_whole(module: str) -> bool:
    """Whether a module lies in the U-Net's first numbering and outside its attention."""
    return bool(_NUMBERED_CONVOLUTION.search(module.replace(".", "_")))


def _spellings(path: str, part: Part) -> list[str]:
    """A path and what older diffusers would mean by it."""
    if part is Part.UNET:
        return [path, re.sub(r"\.to_out$", ".to_out.0", path)]
    older = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
    before, _, last = path.rpartition(".")
    return [path, f"{before}.{older.get(last, last)}"]


def _renumbered(flat: str) -> str:
    """`input_blocks_4_1_...` as `down_blocks_1_attentions_0_...`; any other name as it is."""

    def named(match: re.Match[str]) -> str:
        number = int(match["number"])
        if match["half"] == "input":
            return f"down_blocks_{(number - 1) // 3}_attentions_{(number - 1) % 3}_"
        return f"up_blocks_{number // 3}_attentions_{number % 3}_"

    return _NUMBERED.sub(named, flat.replace("middle_block_1_", "mid_block_attentions_0_"))
