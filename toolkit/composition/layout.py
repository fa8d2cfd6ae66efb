"""Where the subjects of a picture stand: a prompt, and boxes that each name a concept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.errors import InputError

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as fractions of the canvas's width and height."""


@dataclass(frozen=True)
class Region:
    """One concept's place in the picture.

    prompt: what is in the box; <concept> stands for the concept's tokens.
    negative_prompt: None takes the layout's.
    strength: scale of the concept's LoRA here.
    """

    concept: str
    prompt: str
    box: Box
    negative_prompt: str | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            raise InputError(
                f"box {list(self.box)} of {self.concept}: needs 0 <= x0 < x1 <= 1 and "
                "0 <= y0 < y1 <= 1 (fractions of width and height)"
            )
        if not names_concept(self.prompt, self.concept):
            raise InputError(
                f"region prompt {self.prompt!r} does not name its concept: "
                f"write <{self.concept}> in it"
            )


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

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise InputError(f"layout name {self.name!r}: letters, digits, - and _ only")
        if self.width <= 0 or self.height <= 0:
            raise InputError(f"layout {self.name}: width and height must be above 0")
        if self.background and not names_concept(self.prompt, self.background):
            raise InputError(
                f"layout {self.name}: the prompt does not name the background concept: "
                f"write <{self.background}> in it"
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
    return re.search(rf"<{re.escape(concept)}\d*>", prompt) is not None


def layout_from_mapping(content: Mapping[str, Any], source: str) -> Layout:
    """A layout from what YAML or JSON gave; `source` says where it stood, for messages.

    Raises InputError naming the wrong key or value.
    """
    known = {
        "name", "prompt", "negative_prompt", "width", "height", "background", "regions"
    }  # fmt: skip
    try:
        _check_keys(content, known, {"name", "prompt", "width", "height", "regions"})
        regions = content["regions"]
        if not isinstance(regions, list):
            raise InputError("regions: must be a list")
        return Layout(
            name=_text(content, "name"),
            prompt=_text(content, "prompt"),
            negative_prompt=_text(content, "negative_prompt", ""),
            width=_whole(content, "width"),
            height=_whole(content, "height"),
            background=_text(content, "background") if content.get("background") else None,
            regions=tuple(_region(entry, number) for number, entry in enumerate(regions, 1)),
        )
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def layout_to_mapping(layout: Layout) -> dict[str, Any]:
    """The layout as plain values, every default written out; `layout_from_mapping` reads it."""
    return {
        "name": layout.name,
        "prompt": layout.prompt,
        "negative_prompt": layout.negative_prompt,
        "width": layout.width,
        "height": layout.height,
        "background": layout.background,
        "regions": [
            {
                "concept": region.concept,
                "prompt": region.prompt,
                "negative_prompt": region.negative_prompt,
                "strength": region.strength,
                "box": list(region.box),
            }
            for region in layout.regions
        ],
    }


def _region(content: Any, number: int) -> Region:
    if not isinstance(content, Mapping):
        raise InputError(f"region {number}: must hold concept, prompt and box")
    known = {"concept", "prompt", "negative_prompt", "strength", "box"}
    try:
        _check_keys(content, known, {"concept", "prompt", "box"})
        box = content["box"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise InputError(f"box {box!r}: must be four numbers [x0, y0, x1, y1]")
        negative = content.get("negative_prompt")
        strength = content.get("strength", 1.0)
        if not _is_number(strength):
            raise InputError(f"strength {strength!r}: must be a number")
        return Region(
            concept=_text(content, "concept"),
            prompt=_text(content, "prompt"),
            negative_prompt=None if negative is None else str(negative),
            strength=float(strength),
            box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        )
    except InputError as error:
        raise InputError(f"region {number}: {error}") from error


def _check_keys(content: Mapping[str, Any], known: set[str], needed: set[str]) -> None:
    for key in content:
        if key not in known:
            raise InputError(f"unknown key {key!r}; known: {', '.join(sorted(known))}")
    missing = sorted(needed - set(content))
    if missing:
        raise InputError(f"missing: {', '.join(missing)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(content: Mapping[str, Any], key: str) -> int:
    value = content[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{key} {value!r}: must be a whole number of pixels")
    return value


def _text(content: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = content.get(key, default)
    if not isinstance(value, str):
        raise InputError(f"{key} {value!r}: must be text")
    return value
