"""Mix-of-Show's regional sampling (arXiv 2305.18292), on weights fused of all its concepts."""

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
class MixOfShow(PlainMethod):
    """One model that holds all concepts; each box attends to a prompt of its own."""

    keeps_regions: ClassVar[bool] = True

    name: str = "mix_of_show"
    fusion: str | None = None
    """What `toolkit fuse` called it; null: the layout's concepts, in its order, joined by _."""

    def also_needs(self, layout: "Layout") -> tuple[str, ...]:
        """The fusion of the layout's concepts."""
        return (self.fusion or "_".join(layout.concepts),) if layout.concepts else ()

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The canvas with class words and each box in its concept's words, all by the fusion."""
        from toolkit.methods.reading import encode, own_prompts, under

        canvas, regions = own_prompts(layout, concepts)
        fused = next((concepts[name] for name in self.also_needs(layout)), None)
        return (encode(base, layout, under(fused, canvas), [under(fused, r) for r in regions]),)
