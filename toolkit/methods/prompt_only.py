"""The base alone."""

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
class PromptOnly(PlainMethod):
    """The base alone, with class words."""

    takes_schedules: ClassVar[bool] = True

    name: str = "prompt_only"

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The prompt with every concept's class word in place of its tokens."""
        from toolkit.methods.reading import described_prompt, encode

        return (encode(base, layout, described_prompt(layout, concepts)),)
