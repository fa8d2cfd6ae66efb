"""One file for each method, and the formulas that they share."""

from dataclasses import asdict, fields
from typing import Any

from toolkit.methods.cones2 import Cones2
from toolkit.methods.empty_scene import EmptyScene
from toolkit.methods.lora_composer import PRESETS, LoraComposer, Preset
from toolkit.methods.lora_composite import LoraComposite
from toolkit.methods.lora_switch import LoraSwitch
from toolkit.methods.merge import Merge
from toolkit.methods.method import Method, Process
from toolkit.methods.mix_of_show import MixOfShow
from toolkit.methods.paint_by_example import PaintByExample
from toolkit.methods.prompt_only import PromptOnly
from toolkit.methods.regional_prompt import RegionalPrompt
from toolkit.methods.regional_tokens import RegionalTokens

KINDS: dict[str, type[Method]] = {
    "lora_composer": LoraComposer,
    "prompt_only": PromptOnly,
    "merge": Merge,
    "lora_switch": LoraSwitch,
    "lora_composite": LoraComposite,
    "mix_of_show": MixOfShow,
    "cones2": Cones2,
    "paint_by_example": PaintByExample,
    "regional_prompt": RegionalPrompt,
    "regional_tokens": RegionalTokens,
    "empty_scene": EmptyScene,
}
"""By the word that `sampler:` has in a method's file."""


def record_of(method: Method) -> dict[str, Any]:
    """What a picture's record keeps of the method that made it: its kind, and every setting.

    Keys that came later (`method.ADDED`) stand in it where they are not at their default.
    """
    kind = next(name for name, made in KINDS.items() if type(method) is made)
    settings = asdict(method)
    for key in fields(method):
        if "added" in key.metadata and settings[key.name] == key.default:
            del settings[key.name]
    return {"sampler": kind, **settings}


__all__ = [
    "KINDS",
    "PRESETS",
    "LoraComposer",
    "Method",
    "Preset",
    "Process",
    "record_of",
]
