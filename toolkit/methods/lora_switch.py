"""LoRA Switch (Zhong et al. 2024, arXiv 2402.16843)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import InputError
from toolkit.methods.method import Method, Process

if TYPE_CHECKING:
    from toolkit.backbones import Backbone
    from toolkit.concept import Concept
    from toolkit.layout.layout import Layout
    from toolkit.methods.method import Prepared


@dataclass(frozen=True)
class LoraSwitch(Method):
    """One LoRA acts at a time, each for some steps."""

    name: str = "lora_switch"
    period: int = 5
    """How many steps a LoRA acts before the next one does."""
    strength: float = 0.8
    """Of every LoRA, in both networks, beside what the layout says."""

    def __post_init__(self) -> None:
        if self.period < 1:
            raise InputError(f"method.period={self.period}: must be at least 1")

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The joint prompt, read once under each LoRA alone."""
        from toolkit.methods.alternating import switched
        from toolkit.methods.reading import encode, one_by_one

        prompts = one_by_one(layout, concepts, switched, self.strength)
        return tuple(encode(base, layout, prompt) for prompt in prompts)

    def start(
        self, base: "Backbone", prepared: "Sequence[Prepared]", steps: int, guidance_scale: float
    ) -> Process:
        """Predict under one LoRA at a time."""
        from toolkit.methods.plain import Switching

        return Switching(base, prepared, self.period, guidance_scale)
