"""Layouts check themselves, and say in one line what is wrong and where."""

import pytest

from toolkit.composition.layout import Layout
from toolkit.composition.layout_mapping import layout_from_mapping, layout_to_mapping
from toolkit.errors import InputError


def content(**change: object) -> dict:
    region = {"concept": "dog", "prompt": "<dog>, sitting", "box": [0.05, 0.15, 0.45, 0.95]}
    return {
        "name": "scene1",
        "prompt": "a dog on grass",
        "width": 256,
        "height": 128,
        "regions": [region | change.pop("region", {})],  # type: ignore[operator]
    } | change


def read(**change: object) -> Layout:
    return layout_from_mapping(content(**change), "scene1.yaml")


def test_a_layout_survives_being_written_and_read() -> None:
    layout = read(region={"negative_prompt": "blurry", "strength": 0.5})
    assert layout_from_mapping(layout_to_mapping(layout), "again") == layout


def test_a_regions_negative_prompt_is_the_layouts_unless_given() -> None:
    layout = read(negative_prompt="blurry")
    assert layout.negative_prompt_of(layout.regions[0]) == "blurry"
    own = read(negative_prompt="blurry", region={"negative_prompt": ""})
    assert own.negative_prompt_of(own.regions[0]) == ""


def test_concepts_are_named_once_each_with_the_background_first() -> None:
    twice = content()["regions"] * 2
    layout = read(background="rock", prompt="a dog at <rock>", regions=twice)
    assert layout.concepts == ("rock", "dog")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"region": {"box": [0.5, 0.1, 1.2, 0.9]}}, "region 1: box .* of dog"),
        ({"region": {"box": [0.5, 0.1, 0.4, 0.9]}}, "region 1: box .* x0 < x1"),
        ({"region": {"box": [0.5, 0.1, 0.9]}}, "four numbers"),
        ({"region": {"prompt": "a dog, sitting"}}, "write <dog> in it"),
        ({"region": {"boks": 1}}, "unknown key 'boks'; known: box"),
        ({"background": "rock"}, "write <rock> in it"),
        ({"name": "a b"}, "letters, digits, - and _"),
        ({"width": 0}, "above 0"),
        ({"width": "wide"}, "whole number of pixels"),
        ({"size": 3}, "unknown key 'size'"),
        ({"regions": {}}, "must be a list"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=rf"^scene1\.yaml: .*{message}"):
        read(**change)


def test_a_missing_key_is_named() -> None:
    incomplete = content()
    del incomplete["prompt"]
    with pytest.raises(InputError, match="missing: prompt"):
        layout_from_mapping(incomplete, "scene1.yaml")
