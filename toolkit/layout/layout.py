"""Where the subjects of a picture stand: a prompt, and regions that each name a concept."""

import math
import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Annotated

from toolkit.errors import InputError, shortened, within
from toolkit.layout.strength import Strength
from toolkit.names import check_characters, check_name

LARGEST_SIDE = 16384
"""Pixels: the largest canvas that any base draws is far below."""

Box = Annotated[tuple[float, float, float, float], "four numbers, [x0, y0, x1, y1]"]
"""x0, y0, x1, y1 as fractions of the canvas's width and height."""

Point = tuple[float, float]
"""x, y as fractions of the canvas's width and height."""


@dataclass(frozen=True)
class Region:
    """One concept's place in the picture: a box, a mask or a polygon.

    concept: its name, or a file that holds one, which then answers to the file's name: <rex> for
        loras/rex.safetensors.
    prompt: what is in the region; <concept> stands for the concept's tokens.
    negative_prompt: None takes the layout's.
    strength: scale of the concept's LoRA here, or how that changes over the steps.
    guidance_scale: of classifier-free guidance in the region; None takes the picture's.
    mask: a grey image over the whole canvas, white inside. polygon: its corners in their order.
    feather: how far inside its edge the region begins to act fully, as a fraction of the canvas's
        shorter side.
    depth: of regions that overlap, the one of least depth stands in front and has the place to
        itself; those of one depth share it.
    """

    concept: str
    prompt: str
    box: Annotated[tuple[float, float, float, float] | None, "four numbers, [x0, y0, x1, y1]"] = (
        None
    )
    negative_prompt: str | None = None
    strength: Annotated[Strength, "a number, or {start: 1.0, end: 0.5, points: [[0.3, 0.8]]}"] = 1.0
    guidance_scale: float | None = None
    mask: Path | None = None
    polygon: Annotated[tuple[Point, ...], "a list of points, [[x, y], [x, y], ...]"] = ()
    feather: float = 0.0
    depth: float = 0.0

    def __post_init__(self) -> None:
        with within("prompt"):
            check_characters("prompt", self.prompt)
        with within("negative_prompt"):
            check_characters("negative_prompt", self.negative_prompt or "")
        with within("concept"):
            _check_callable("concept", self.concept)
        if isinstance(self.strength, float | int) and not math.isfinite(self.strength):
            raise InputError(f"strength {self.strength}: must be finite", "strength")
        self._check_place()
        if not names_concept(self.prompt, self.concept):
            raise InputError(
                f"region prompt {shortened(self.prompt)!r} does not name its concept: "
                f"write <{name_of(self.concept)}> in it",
                "prompt",
            )

    def _check_place(self) -> None:
        given = [name for name in ("box", "mask", "polygon") if getattr(self, name)]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "has no place"
            raise InputError(
                f"region of {self.concept} {said}: give one of box, mask and polygon",
                given[-1] if given else "box",
            )
        if self.box:
            x0, y0, x1, y1 = self.box
            if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
                raise InputError(
                    f"box {list(self.box)} of {self.concept}: needs 0 <= x0 < x1 <= 1 and "
                    "0 <= y0 < y1 <= 1 (fractions of width and height)",
                    "box",
                )
        if self.polygon:
            across, down = zip(*self.polygon, strict=True)
            if len(self.polygon) < 3 or len(set(across)) < 2 or len(set(down)) < 2:
                raise InputError(
                    f"polygon of {self.concept}: needs three corners or more that hold an area",
                    "polygon",
                )
            if not all(0 <= value <= 1 for value in (*across, *down)):
                raise InputError(
                    f"polygon of {self.concept}: needs corners in 0..1 (fractions of width and "
                    "height)",
                    "polygon",
                )
        if not 0 <= self.feather <= 1:
            raise InputError(f"feather {self.feather}: needs 0 <= feather <= 1", "feather")
        if not math.isfinite(self.depth):
            raise InputError(f"depth {self.depth}: must be finite", "depth")


class ConditionType(StrEnum):
    """What reads a condition's image."""

    CONTROLNET = "controlnet"
    T2I_ADAPTER = "t2i_adapter"


@dataclass(frozen=True)
class Condition:
    """An image, such as a pose or a sketch, that shapes the picture beside the prompts.

    model: a diffusers folder or hub id of the network that reads it.
    weight: of what the network adds. region_weights: the same inside each region, in the
    layout's order; None takes `weight`, and so does every region where the tuple is empty.
    mode: what the image is, for a network that reads several kinds (ControlNet-Union): a number
    that its own page tells.
    """

    type: ConditionType
    model: str
    image: Path
    weight: float = 1.0
    region_weights: tuple[float | None, ...] = ()
    mode: int | None = None

    def __post_init__(self) -> None:
        weights = {"weight": (self.weight,), "region_weights": self.region_weights}
        for name, given in weights.items():
            for weight in given:
                if weight is not None and not math.isfinite(weight):
                    raise InputError(f"weight {weight} of {self.image}: must be finite", name)


@dataclass(frozen=True)
class Layout:
    """One picture to compose: its prompt, its size in pixels, and its regions.

    background: a concept that shapes the whole canvas, or None.
    """

    name: str
    prompt: str
    width: int
    height: int
    regions: tuple[Region, ...] = ()
    negative_prompt: str = ""
    background: str | None = None
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        with within("name"):
            check_name("layout name", self.name)
        with within("prompt"):
            check_characters("prompt", self.prompt)
        with within("negative_prompt"):
            check_characters("negative_prompt", self.negative_prompt)
        for side, pixels in (("width", self.width), ("height", self.height)):
            if not 0 < pixels <= LARGEST_SIDE:
                raise InputError(
                    f"layout {self.name}: {side} must be above 0 and at most {LARGEST_SIDE} pixels",
                    side,
                )
        if self.background:
            with within("background"):
                _check_callable("background", self.background)
        if self.background and not names_concept(self.prompt, self.background):
            raise InputError(
                f"layout {self.name}: the prompt does not name the background concept: "
                f"write <{name_of(self.background)}> in it",
                "prompt",
            )
        for first, second in combinations(self.concepts, 2):
            if name_of(first) == name_of(second):
                named = [region.concept for region in self.regions]
                raise InputError(
                    f"layout {self.name}: {first} and {second} would both be "
                    f"<{name_of(first)}>: rename one",
                    f"regions[{named.index(second)}].concept",
                )
        for number, condition in enumerate(self.conditions, 1):
            weights = len(condition.region_weights)
            if weights and weights != len(self.regions):
                raise InputError(
                    f"layout {self.name}, condition {number}: {weights} region_weights for "
                    f"{len(self.regions)} regions",
                    f"conditions[{number - 1}].region_weights",
                )

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept the picture needs, once each, in order of appearance."""
        background = (self.background,) if self.background else ()
        return tuple(dict.fromkeys((*background, *(region.concept for region in self.regions))))

    def negative_prompt_of(self, region: Region) -> str:
        """The negative prompt that holds in `region`."""
        return self.negative_prompt if region.negative_prompt is None else region.negative_prompt


def names_concept(prompt: str, concept: str) -> bool:
    """Whether `prompt` holds <concept>, or one of its tokens written out as <concept1>."""
    return re.search(rf"<{re.escape(name_of(concept))}\d*>", prompt) is not None


def _check_callable(what: str, concept: str) -> None:
    """Raise InputError for a concept that <NAME> cannot call, be it a name or a file's."""
    try:
        check_name(what, name_of(concept))
    except InputError as error:
        if not is_file(concept):
            raise
        raise InputError(
            f"{error}, and a file is called by its own: rename it, or run toolkit import "
            f"{shlex.quote(shortened(concept, 300))} concept=NAME and write {what}: NAME"
        ) from error


_TENSOR_FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def is_file(concept: str) -> bool:
    """Whether a layout's `concept` is a file that holds one, and not a name."""
    return "/" in concept or Path(concept).suffix.lower() in _TENSOR_FILES


def name_of(concept: str) -> str:
    """What a layout's `concept` answers to: its name, or that of its file without the suffix."""
    return Path(concept).stem if is_file(concept) else concept
