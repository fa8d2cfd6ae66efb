"""What a method is: settings, how it reads a layout, and what it does at each step.

A method is one frozen dataclass whose fields are its keys. Its file imports nothing heavy at the
top, so that its keys can be read, checked and listed before torch is loaded; what computes is
imported when the method begins.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from toolkit.concept.stored import ED_LORA
from toolkit.errors import InputError
from toolkit.layout.strength import StrengthSchedule

ADDED = {"added": True}
"""Metadata of a key that came later: at its default, a picture's record is without it.

So a picture that was made before there was such a key is not made again.
"""

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.backbones import Backbone, Conditioning
    from toolkit.backbones.prompts import Prompt
    from toolkit.backbones.protocol import Scheduler
    from toolkit.concept import Concept
    from toolkit.layout.layout import Layout, Region
    from toolkit.methods.guidance import Guidance

    Prepared = tuple[Conditioning, ...]
    """A layout as a method reads it: mostly one conditioning, one for each concept by some."""


class Process(Protocol):
    """A batch of pictures on its way; what `sampling.denoise` calls, in this order."""

    def begin(self, noise: "Tensor", timestep: "Tensor") -> "tuple[Tensor, list[list[Tensor]]]":
        """(pictures, channels, h, w) noise to start from, and what its choice was made by.

        That is for each picture and region (h, w, places) attention; empty where nothing chose.
        """
        ...

    def refine(
        self, latents: "Tensor", number: int, timestep: "Tensor"
    ) -> "tuple[Tensor, dict[int, Guidance]]":
        """The latents to predict from at a step, and what guided them, by picture."""
        ...

    def predict(self, latents: "Tensor", number: int, timestep: "Tensor") -> "Tensor":
        """(pictures, channels, h, w) noise (or velocity) in float32, guidance included."""
        ...


@runtime_checkable
class OwnScheduler(Protocol):
    """What a process has besides when the base's scheduler is not the one to take its steps."""

    @property
    def scheduler(self) -> "Scheduler": ...


@dataclass(frozen=True)
class Method(ABC):
    """A way to make the pictures of layouts. name: METHOD in the paths of results."""

    recipe: ClassVar[str] = ED_LORA
    """How its concepts are trained, as `toolkit train recipe=` has it."""
    keeps_regions: ClassVar[bool] = False
    """Whether its regions act while a finished picture is denoised `again`."""
    finishes: ClassVar[bool] = False
    """Whether `finish` does something, for which it is shown an image of each concept."""
    takes_schedules: ClassVar[bool] = False
    """Whether strengths may change over the steps: it follows them, or has no use for any."""
    not_in_name: ClassVar[frozenset[str]] = frozenset()
    """Keys that do not change what results are called."""

    name: str

    def passes(self, steps: int) -> int:
        """Denoising passes for so many steps."""
        return steps

    def also_needs(self, layout: "Layout") -> tuple[str, ...]:
        """Concepts that `prepare` asks for besides the layout's own."""
        return ()

    def check(self, layout: "Layout") -> None:
        """Raise InputError for what is wrong and can be told without torch."""
        if self.takes_schedules:
            return
        for number, region in enumerate(layout.regions):
            if isinstance(region.strength, StrengthSchedule):
                raise InputError(
                    f"layout {layout.name}, region {number + 1}: method={self.name} has one "
                    "strength for all steps, and this region a schedule: give a number",
                    f"regions[{number}].strength",
                )

    def left_out(self, paths: Iterable[str]) -> dict[str, int]:
        """How many of a concept's maps, at these paths of the base, do not act inside regions.

        By their kinds, in words.
        """
        return {}

    def reads(self, layout: "Layout", exemplars: "Mapping[str, Path]") -> tuple[str, ...]:
        """Files and folders that a picture depends on besides concepts and conditions."""
        return ()

    def finish(
        self, pixels: "Tensor", layout: "Layout", seed: int, exemplars: "Mapping[str, Path]"
    ) -> "Tensor":
        """What is left to do with a picture, (3, height, width) in 0..1; mostly nothing.

        exemplars: an image of each region's concept, where the method `finishes`.
        """
        return pixels

    @abstractmethod
    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The layout, encoded: all that depends on neither seed nor step.

        concepts: by name, every one the layout needs.
        Raises InputError when a concept does not fit the base, a box does not fit the canvas, or a
        prompt is longer than the text encoder's window.
        """

    @abstractmethod
    def start(
        self, base: "Backbone", prepared: "Sequence[Prepared]", steps: int, guidance_scale: float
    ) -> Process:
        """Begin a batch, one picture for each of `prepared`; all canvases have one size."""

    def again(
        self, base: "Backbone", prepared: "Sequence[Prepared]", guidance_scale: float
    ) -> Process:
        """Begin a batch of finished pictures that are denoised again: predicted, and not guided."""
        from toolkit.methods.plain import Plain

        return Plain(base, [own for (own,) in prepared], guidance_scale)

    def alone(
        self, layout: "Layout", region: "Region", concepts: "Mapping[str, Concept]"
    ) -> "Prompt":
        """What draws a region alone: its prompt under its own concept, at its strength."""
        from toolkit.methods.reading import own_prompt

        return own_prompt(layout, region, concepts)


class PlainMethod(Method):
    """A method that is no more than a way to read a layout: its steps are predicted."""

    def start(
        self, base: "Backbone", prepared: "Sequence[Prepared]", steps: int, guidance_scale: float
    ) -> Process:
        """Predict, and nothing else; `prepare` gave one conditioning for each picture."""
        from toolkit.methods.plain import Plain

        return Plain(base, [own for (own,) in prepared], guidance_scale)
