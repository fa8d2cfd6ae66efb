"""Layouts to and from the plain values that YAML and JSON hold."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.layout.layout import Condition, ConditionType, Layout, Region
from toolkit.names import check_characters
from toolkit.text.numbers import is_number


def layout_from_mapping(content: Mapping[str, Any], source: str) -> Layout:
    """A layout from what YAML or JSON gave; `source` says where it stood, for messages.

    Raises InputError naming the wrong key or value.
    """
    known = {
        "name", "prompt", "negative_prompt", "width", "height", "background", "regions",
        "conditions",
    }  # fmt: skip
    try:
        _check_keys(content, known, {"name", "prompt", "width", "height", "regions"})
        regions = content["regions"]
        if not isinstance(regions, list):
            raise InputError("regions: must be a list")
        steers = _list_or_none(content, "conditions")
        return Layout(
            name=_text(content, "name"),
            prompt=_text(content, "prompt"),
            negative_prompt=_text_or_none(content, "negative_prompt") or "",
            width=_whole(content, "width"),
            height=_whole(content, "height"),
            background=_text_or_none(content, "background"),
            regions=tuple(_region(entry, number) for number, entry in enumerate(regions, 1)),
            conditions=tuple(_condition(entry, number) for number, entry in enumerate(steers, 1)),
        )
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def layout_to_mapping(layout: Layout) -> dict[str, Any]:
    """The layout as plain values; `layout_from_mapping` reads it.

    Every default is written out, but for conditions and guidance scales where there are none.
    """
    conditions = [
        {
            "type": str(condition.type),
            "model": condition.model,
            "image": str(condition.image),
            "weight": condition.weight,
            "region_weights": list(condition.region_weights),
        }
        for condition in layout.conditions
    ]
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
            | ({} if region.guidance_scale is None else {"guidance_scale": region.guidance_scale})
            for region in layout.regions
        ],
    } | ({"conditions": conditions} if conditions else {})


def _region(content: Any, number: int) -> Region:
    if not isinstance(content, Mapping):
        raise InputError(f"region {number}: must hold concept, prompt and box")
    known = {"concept", "prompt", "negative_prompt", "strength", "box", "guidance_scale"}
    try:
        _check_keys(content, known, {"concept", "prompt", "box"})
        box = content["box"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            raise InputError(f"box {_shown(box)}: must be four numbers [x0, y0, x1, y1]")
        guided = content.get("guidance_scale") is not None
        return Region(
            concept=_text(content, "concept"),
            prompt=_text(content, "prompt"),
            negative_prompt=_text_or_none(content, "negative_prompt"),
            strength=_number(content, "strength", 1.0),
            guidance_scale=_number(content, "guidance_scale", 1.0) if guided else None,
            box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        )
    except InputError as error:
        raise InputError(f"region {number}: {error}") from error


def _condition(content: Any, number: int) -> Condition:
    if not isinstance(content, Mapping):
        raise InputError(f"condition {number}: must hold type, model and image")
    known = {"type", "model", "image", "weight", "region_weights"}
    try:
        _check_keys(content, known, {"type", "model", "image"})
        kind = content["type"]
        if kind not in list(ConditionType):
            raise InputError(f"type {_shown(kind)}: must be one of {', '.join(ConditionType)}")
        weights = _list_or_none(content, "region_weights")
        if not all(w is None or is_number(w) for w in weights):
            raise InputError(
                f"region_weights {_shown(weights)}: must be a number (or null) per region"
            )
        return Condition(
            type=ConditionType(kind),
            model=_text(content, "model"),
            image=Path(_text(content, "image")),
            weight=_number(content, "weight", 1.0),
            region_weights=tuple(None if w is None else float(w) for w in weights),
        )
    except InputError as error:
        raise InputError(f"condition {number}: {error}") from error


def _check_keys(content: Mapping[str, Any], known: set[str], needed: set[str]) -> None:
    for key in content:
        if key not in known:
            raise InputError(f"unknown key {_shown(key)}; known: {', '.join(sorted(known))}")
    missing = sorted(needed - set(content))
    if missing:
        raise InputError(f"missing: {', '.join(missing)}")


def _number(content: Mapping[str, Any], key: str, default: float) -> float:
    value = content.get(key, default)
    if not is_number(value):
        raise InputError(f"{key} {_shown(value)}: must be a finite number")
    return float(value)


def _whole(content: Mapping[str, Any], key: str) -> int:
    value = content[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{key} {_shown(value)}: must be a whole number of pixels")
    return value


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content[key]
    if not isinstance(value, str):
        quotes = ": write it in quotes" if isinstance(value, int | float) else ""
        raise InputError(f"{key} {_shown(value)}: must be text{quotes}")
    check_characters(key, value)
    return value


def _text_or_none(content: Mapping[str, Any], key: str) -> str | None:
    return None if content.get(key) is None else _text(content, key)


def _list_or_none(content: Mapping[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list | None):
        raise InputError(f"{key} {_shown(value)}: must be a list")
    return value or []


def _shown(value: Any) -> str:
    """A wrong value as a message shows it, however large or deeply nested it is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # a number of so many digits that Python does not write it
        return f"a {type(value).__name__}"
