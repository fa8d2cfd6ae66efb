"""LoRA Composite (Zhong et al. 2024, arXiv 2402.16843)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.methods.method import Method, Process

if TYPE_CHECKING:
    from toolkit.backbones import Backbone
    from toolkit.concept import Concept
    from toolkit.layout.layout import Layout
    from toolkit.methods.method import Prepared


@dataclass(frozen=True)
class LoraComposite(Method):
    """The mean of what is predicted under each LoRA."""

    name: str = "lora_composite"
    strength: float = 0.8
    """Of every LoRA, in both networks, beside what the layout says."""

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The joint prompt, read once under each LoRA alone."""
        from toolkit.methods.alternating import composited
        from toolkit.methods.reading import encode, one_by_one

        prompts = one_by_one(layout, concepts, composited, self.strength)
        return tuple(encode(base, layout, prompt) for prompt in prompts)

    def start(
        self, base: "Backbone", prepared: "Sequence[Prepared]", steps: int, guidance_scale: float
    ) -> Process:
        """Predict under every LoRA, and take the mean."""
        from toolkit.methods.plain import Averaging

        return Averaging(base, prepared, guidance_scale)
