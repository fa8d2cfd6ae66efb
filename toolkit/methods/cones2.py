"""Cones 2 (Liu et al. 2023, arXiv 2305.19327): residuals at class words, and layout guidance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from toolkit.concept.stored import CONES2
from toolkit.errors import InputError
from toolkit.methods.boxes import check_boxes
from toolkit.methods.method import Method, Process

if TYPE_CHECKING:
    from toolkit.backbones import Backbone
    from toolkit.backbones.prompts import Prompt
    from toolkit.concept import Concept
    from toolkit.layout.layout import Layout, Region
    from toolkit.methods.method import Prepared


@dataclass(frozen=True)
class Cones2(Method):
    """The base with one prompt, in which class words are read as concepts and drawn to boxes."""

    recipe: ClassVar[str] = CONES2
    keeps_regions: ClassVar[bool] = True

    name: str = "cones2"
    guidance_steps: int | None = None
    """How many steps layout guidance acts at, each of them taken twice; null: all."""
    weight: float = 0.08
    """Of layout guidance; its authors say 0.05 to 0.10."""
    inside: float = 2.5
    """Of a class word in its box."""
    outside: float = -1e8
    """Of a class word outside of its box."""

    def __post_init__(self) -> None:
        if self.guidance_steps is not None and self.guidance_steps < 1:
            raise InputError(
                f"method.guidance_steps={self.guidance_steps}: must be at least 1, or null"
            )

    def guided(self, steps: int) -> int:
        """How many levels the schedule has that layout guidance follows."""
        return steps if self.guidance_steps is None else self.guidance_steps

    def order(self, steps: int) -> list[int]:
        """Which of the `steps` each pass takes: the guided ones twice."""
        guided = self.guided(steps)
        return [step for step in range(steps) for _ in range(2 if step < guided else 1)]

    def check(self, layout: "Layout") -> None:
        """Raise InputError for regions that are more than boxes, and strengths that change."""
        super().check(layout)
        check_boxes(layout, self.name)

    def passes(self, steps: int) -> int:
        """Denoising passes for so many steps."""
        return len(self.order(steps))

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The layout's prompt in class words, with each concept's residual at its own."""
        from toolkit.methods.reading import encode, with_subjects

        return (encode(base, layout, with_subjects(layout, concepts)),)

    def start(
        self, base: "Backbone", prepared: "Sequence[Prepared]", steps: int, guidance_scale: float
    ) -> Process:
        """Take the guided steps twice, and the others once."""
        from toolkit.methods.recurring import Recurring

        return Recurring(base, [own for (own,) in prepared], self, steps, guidance_scale)

    def again(
        self, base: "Backbone", prepared: "Sequence[Prepared]", guidance_scale: float
    ) -> Process:
        """Class words are drawn to their boxes at every step, each of which is taken once."""
        from toolkit.methods.recurring import Drawn

        return Drawn(base, [own for (own,) in prepared], self, guidance_scale)

    def alone(
        self, layout: "Layout", region: "Region", concepts: "Mapping[str, Concept]"
    ) -> "Prompt":
        """The region's prompt in class words, with its own concept's residual."""
        from toolkit.methods.reading import with_subjects

        own = replace(layout, prompt=region.prompt, regions=(region,), background=None)
        negative = layout.negative_prompt_of(region)
        return replace(with_subjects(replace(own, conditions=()), concepts), negative=negative)
