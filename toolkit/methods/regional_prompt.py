"""LoRAs merged, and prompts for boxes in class words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from toolkit.methods.method import PlainMethod

if TYPE_CHECKING:
    from toolkit.backbones import Backbone
    from toolkit.concept import Concept
    from toolkit.layout.layout import Layout
    from toolkit.methods.method import Prepared


@dataclass(frozen=True)
class RegionalPrompt(PlainMethod):
    """LoRAs merged, and each box attends to a prompt of its own with the class word."""

    keeps_regions: ClassVar[bool] = True

    name: str = "regional_prompt"

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """A prompt for the canvas and one for each box, all with class words."""
        from toolkit.methods.reading import encode, regional_prompts

        return (encode(base, layout, *regional_prompts(layout, concepts, words=True)),)
