"""The place without its subjects: no rival, but what others are held against."""

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
class EmptyScene(PlainMethod):
    """The base alone draws the layout's prompt without its subjects."""

    takes_schedules: ClassVar[bool] = True

    name: str = "empty_scene"

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The prompt without the regions' class words."""
        from toolkit.methods.reading import empty_scene, encode

        return (encode(base, layout, empty_scene(layout, concepts)),)
