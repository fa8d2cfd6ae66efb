"""Train one ED-LoRA per concept, then compose several of them into one picture.

What a notebook needs is imported from here, as `from toolkit import load_base, compose`. Each name
is loaded when it is first asked for, so that `import toolkit` and the commands' help take no torch.
"""

from typing import TYPE_CHECKING

from toolkit.lazy import loader

if TYPE_CHECKING:
    from toolkit.backbones import Base as Base
    from toolkit.concept import Concept as Concept
    from toolkit.concept import save_concept as save_concept
    from toolkit.errors import InputError as InputError
    from toolkit.errors import RunError as RunError
    from toolkit.layout.files import read_layouts as read_layouts
    from toolkit.layout.layout import Condition as Condition
    from toolkit.layout.layout import ConditionType as ConditionType
    from toolkit.layout.layout import Layout as Layout
    from toolkit.layout.layout import Region as Region
    from toolkit.library.learning import export_concept as export_concept
    from toolkit.library.learning import train as train
    from toolkit.library.named import load_base as load_base
    from toolkit.library.named import load_concept as load_concept
    from toolkit.library.named import load_layout as load_layout
    from toolkit.library.named import load_method as load_method
    from toolkit.library.pictures import compose as compose
    from toolkit.library.pictures import compose_steps as compose_steps
    from toolkit.library.pictures import pictures_of as pictures_of
    from toolkit.library.pictures import sample as sample
    from toolkit.methods import LoraComposer as LoraComposer
    from toolkit.methods import Method as Method
    from toolkit.methods import Process as Process
    from toolkit.methods.lora_composer import BALANCED as BALANCED
    from toolkit.methods.lora_composer import PAPER as PAPER
    from toolkit.methods.lora_composer import PUBLISHED as PUBLISHED
    from toolkit.sampling import Step as Step
    from toolkit.sampling import denoise as denoise
    from toolkit.sampling import initial_noise as initial_noise
    from toolkit.second.plan import SecondPasses as SecondPasses

__version__ = "0.1.0"

_NAMES = {
    "toolkit.backbones": ("Base",),
    "toolkit.concept": ("Concept", "save_concept"),
    "toolkit.errors": ("InputError", "RunError"),
    "toolkit.layout.files": ("read_layouts",),
    "toolkit.layout.layout": ("Condition", "ConditionType", "Layout", "Region"),
    "toolkit.library.learning": ("export_concept", "train"),
    "toolkit.library.named": ("load_base", "load_concept", "load_layout", "load_method"),
    "toolkit.library.pictures": ("compose", "compose_steps", "pictures_of", "sample"),
    "toolkit.methods": ("LoraComposer", "Method", "Process"),
    "toolkit.methods.lora_composer": ("BALANCED", "PAPER", "PUBLISHED"),
    "toolkit.sampling": ("Step", "denoise", "initial_noise"),
    "toolkit.second.plan": ("SecondPasses",),
}

__all__ = sorted(name for held in _NAMES.values() for name in held)
__getattr__ = loader(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
