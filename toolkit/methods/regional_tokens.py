"""LoRAs merged, and prompts for boxes in the concepts' own words."""

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
class RegionalTokens(Method):
    """LoRAs merged, and each box attends to a prompt of its own with the concept's tokens."""

    name: str = "regional_tokens"

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """A joint prompt for the canvas, and one for each box with its concept's own tokens."""
        from toolkit.methods.reading import encode, regional_prompts

        return (encode(base, layout, *regional_prompts(layout, concepts, words=False)),)

    def start(
        self, base: "Backbone", prepared: "Sequence[Prepared]", steps: int, guidance_scale: float
    ) -> Process:
        """Predict, and nothing else."""
        from toolkit.methods.plain import Plain

        return Plain(base, [own for (own,) in prepared], guidance_scale)
