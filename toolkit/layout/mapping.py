"""Layouts to and from the plain values that YAML and JSON hold."""

from collections.abc import Mapping
from typing import Any

from toolkit.errors import within
from toolkit.layout.layout import Layout, Region
from toolkit.layout.strength import Strength, StrengthSchedule
from toolkit.text.dataclass_values import read_dataclass


def layout_from_mapping(content: Mapping[str, Any], source: str) -> Layout:
    """A layout from what YAML or JSON gave; `source` says where it stood, for messages.

    Raises InputError naming the wrong key or value.
    """
    with within("", source):
        return read_dataclass(Layout, content, also_needed=("regions",))


def layout_to_mapping(layout: Layout) -> dict[str, Any]:
    """The layout as plain values; `layout_from_mapping` reads it.

    Every default is written out, but for conditions, modes, guidance scales, feathers and depths
    where there are none.
    """
    conditions = [
        {
            "type": str(condition.type),
            "model": condition.model,
            "image": str(condition.image),
            "weight": condition.weight,
            "region_weights": list(condition.region_weights),
        }
        | ({} if condition.mode is None else {"mode": condition.mode})
        for condition in layout.conditions
    ]
    return {
        "name": layout.name,
        "prompt": layout.prompt,
        "negative_prompt": layout.negative_prompt,
        "width": layout.width,
        "height": layout.height,
        "background": layout.background,
        "regions": [_region_to_mapping(region) for region in layout.regions],
    } | ({"conditions": conditions} if conditions else {})


def _strength_as_value(strength: Strength) -> float | dict[str, Any]:
    if not isinstance(strength, StrengthSchedule):
        return strength
    points = [list(point) for point in strength.points]
    return {"start": strength.start, "end": strength.end} | ({"points": points} if points else {})


def _region_to_mapping(region: Region) -> dict[str, Any]:
    place: dict[str, Any] = {}
    if region.box:
        place = {"box": list(region.box)}
    elif region.polygon:
        place = {"polygon": [list(point) for point in region.polygon]}
    elif region.mask:
        place = {"mask": str(region.mask)}
    return (
        {
            "concept": region.concept,
            "prompt": region.prompt,
            "negative_prompt": region.negative_prompt,
            "strength": _strength_as_value(region.strength),
        }
        | place
        | ({} if region.guidance_scale is None else {"guidance_scale": region.guidance_scale})
        | ({"feather": region.feather} if region.feather else {})
        | ({"depth": region.depth} if region.depth else {})
    )
