"""The base alone."""

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
class PromptOnly(Method):
    """The base alone, with class words."""

    name: str = "prompt_only"

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The prompt with every concept's class word in place of its tokens."""
        from toolkit.methods.reading import described_prompt, encode

        return (encode(base, layout, described_prompt(layout, concepts)),)

    def start(
        self, base: "Backbone", prepared: "Sequence[Prepared]", steps: int, guidance_scale: float
    ) -> Process:
        """Predict, and nothing else."""
        from toolkit.methods.plain import Plain

        return Plain(base, [own for (own,) in prepared], guidance_scale)
