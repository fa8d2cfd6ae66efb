"""LoRA Composite (Zhong et al. 2024, arXiv 2402.16843)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.methods.method import Method, Process

if TYPE_CHECKING:
    from toolkit.backbones import Base
    from toolkit.concept import Concept
    from toolkit.layout.layout import Layout
    from toolkit.methods.method import Prepared


@dataclass(frozen=True)
class LoraComposite(Method):
    """The mean of what is predicted under each LoRA."""

    name: str = "lora_composite"

    def prepare(
        self, base: "Base", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The joint prompt, read once under each LoRA alone."""
        from toolkit.methods.reading import alone, encode

        return tuple(encode(base, layout, prompt) for prompt in alone(layout, concepts))

    def start(
        self, base: "Base", prepared: "Sequence[Prepared]", steps: int, guidance_scale: float
    ) -> Process:
        """Predict under every LoRA, and take the mean."""
        from toolkit.methods.plain import Averaging

        return Averaging(base, prepared, guidance_scale)
