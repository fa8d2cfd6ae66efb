"""Layouts to and from the plain values that YAML and JSON hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.composition.layout import Condition, ConditionType, Layout, Region
from toolkit.errors import InputError


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
        steers = content.get("conditions") or []
        if not isinstance(steers, list):
            raise InputError("conditions: must be a list")
        return Layout(
            name=_text(content, "name"),
            prompt=_text(content, "prompt"),
            negative_prompt=_text(content, "negative_prompt", ""),
            width=_whole(content, "width"),
            height=_whole(content, "height"),
            background=_text(content, "background") if content.get("background") else None,
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
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise InputError(f"box {box!r}: must be four numbers [x0, y0, x1, y1]")
        negative = content.get("negative_prompt")
        strength = content.get("strength", 1.0)
        if not _is_number(strength):
            raise InputError(f"strength {strength!r}: must be a number")
        guidance = content.get("guidance_scale")
        if guidance is not None and not _is_number(guidance):
            raise InputError(f"guidance_scale {guidance!r}: must be a number")
        return Region(
            concept=_text(content, "concept"),
            prompt=_text(content, "prompt"),
            negative_prompt=None if negative is None else str(negative),
            strength=float(strength),
            guidance_scale=None if guidance is None else float(guidance),
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
        kind, weight = content["type"], content.get("weight", 1.0)
        if kind not in list(ConditionType):
            raise InputError(f"type {kind!r}: must be one of {', '.join(ConditionType)}")
        if not _is_number(weight):
            raise InputError(f"weight {weight!r}: must be a number")
        weights = content.get("region_weights") or []
        if not isinstance(weights, list) or not all(w is None or _is_number(w) for w in weights):
            raise InputError(f"region_weights {weights!r}: must be a number (or null) per region")
        return Condition(
            type=ConditionType(kind),
            model=_text(content, "model"),
            image=Path(_text(content, "image")),
            weight=float(weight),
            region_weights=tuple(None if w is None else float(w) for w in weights),
        )
    except InputError as error:
        raise InputError(f"condition {number}: {error}") from error


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
