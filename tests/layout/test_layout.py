"""Layouts check themselves, and say in one line what is wrong and where."""

import json
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.layout.files import read_layouts
from toolkit.layout.layout import Layout
from toolkit.layout.mapping import layout_from_mapping, layout_to_mapping


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
        ({"regions": None}, "must be a list"),
        ({"conditions": False}, "must be a list"),
        ({"width": 2**20}, "at most 16384"),
        ({"height": 10**400}, "at most 16384"),
        ({"name": "a" * 260}, "too long to be the name of a file"),
        ({"name": 7}, "must be text"),
        ({"prompt": "half \ud83d"}, "character 6 is half of a character"),
        ({"negative_prompt": "a\0b"}, "NUL"),
        ({"background": False}, "must be text"),
        ({"region": {"negative_prompt": False}}, "region 1: negative_prompt False: must be text"),
        ({"region": {"negative_prompt": ["a", "b"]}}, "must be text"),
        ({"region": {"strength": float("inf")}}, "strength inf: must be a finite number"),
        ({"region": {"strength": float("nan")}}, "must be a finite number"),
        ({"region": {"strength": 10**400}}, "must be a finite number"),
        ({"region": {"strength": "1e-1"}}, "must be a finite number"),
        ({"region": {"box": [0, 0, 1, 10**400]}}, "four numbers"),
        ({"region": {"concept": "a" * 260, "prompt": "x"}}, "too long"),
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


def test_names_may_have_letters_of_every_script() -> None:
    assert read(name="été_犬-1").name == "été_犬-1"


def test_nothing_after_a_key_is_nothing() -> None:
    assert read(negative_prompt=None) == read()
    assert read(background=None, conditions=None, region={"negative_prompt": None}) == read()


def test_files_that_a_layout_names_are_found_from_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    region = {"concept": "~/loras/rex.pth", "prompt": "<rex>"}
    condition = {"type": "controlnet", "model": "~/net", "image": "~/pose.png"}
    (tmp_path / "a.yaml").write_text(json.dumps(content(region=region, conditions=[condition])))
    (layout,) = read_layouts([tmp_path / "a.yaml"])
    assert layout.regions[0].concept == str(tmp_path / "loras/rex.pth")
    assert layout.conditions[0].image == tmp_path / "pose.png"
    assert layout.conditions[0].model == str(tmp_path / "net")
