"""Which map of a base other programs mean: kohya's, ComfyUI's, PEFT's, and older diffusers'."""

from collections.abc import Mapping

from torch import nn

from toolkit.backbones.map_change import maps_of
from toolkit.backbones.unet.names import Part, path_of
from toolkit.backbones.unet.numbered import named
from toolkit.errors import InputError

_KOHYA = (
    ("lora_unet_", Part.UNET),
    ("lora_te1_", Part.TEXT_ENCODER),
    ("lora_te_", Part.TEXT_ENCODER),
    ("lora_te2_", Part.TEXT_ENCODER_2),
)
_COMFY = "diffusion_model."  # its name for the U-Net
_OLDER = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


class ForeignNames:
    """The maps of a base, by any name that a program gives them."""

    def __init__(self, networks: Mapping[Part, nn.Module]) -> None:
        """Know the maps of a base's networks."""
        self._paths = {part: set(maps_of(network)) for part, network in networks.items()}
        self._flat = {
            part: {path.replace(".", "_"): path for path in paths}
            for part, paths in self._paths.items()
        }

    def find(self, module: str) -> tuple[Part, str] | None:
        """The part and path that `module` means; None when the base has no such map.

        Raises InputError for a name that two text encoders have, and that does not say whose.
        """
        if module.startswith(_COMFY):
            module = f"lora_unet_{module.removeprefix(_COMFY).replace('.', '_')}"
        for prefix, part in _KOHYA:
            if part in self._flat and module.startswith(prefix):
                flat = named(module.removeprefix(prefix)).removeprefix("text_model_")
                path = self._flat[part].get(flat)
                return None if path is None else (part, path)
        module = module.removeprefix("base_model.model.")
        said = [part for part in self._paths if module.startswith(f"{part}.")]
        found = {
            part: path
            for part in said or self._paths
            for path in _spellings(module.removeprefix(f"{part}."), part)
            if path in self._paths[part]
        }
        if len(found) > 1:
            parts = " or ".join(found)
            raise InputError(f"{module} does not say which network it is of: put {parts} before it")
        return next(iter(found.items()), None)


def _spellings(module: str, part: Part) -> list[str]:
    """A map's name inside its network, and what older diffusers would mean by it."""
    inside = module.replace(".processor.", ".").removeprefix("text_model.")
    if part is Part.UNET:
        return [inside, path_of(inside)]
    before, _, last = inside.rpartition(".")
    return [inside, f"{before}.{_OLDER.get(last, last)}"]
