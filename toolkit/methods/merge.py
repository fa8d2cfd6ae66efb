"""The rival that most tools are: every LoRA added to the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.methods.method import PlainMethod

if TYPE_CHECKING:
    from toolkit.backbones import Backbone
    from toolkit.concept import Concept
    from toolkit.layout.layout import Layout
    from toolkit.methods.method import Prepared


@dataclass(frozen=True)
class Merge(PlainMethod):
    """All LoRAs added into one set of weights, all tokens in one prompt."""

    name: str = "merge"

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """One prompt with every region's tokens in it, read with all LoRAs at once."""
        from toolkit.methods.reading import encode, joint, merged_concept

        return (encode(base, layout, joint(layout, concepts, merged_concept(layout, concepts))),)
