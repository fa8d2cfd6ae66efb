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


REGION = "regions[0]"


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"region": {"box": [0.5, 0.1, 1.2, 0.9]}}, f"{REGION}.box", "region 1: box .* of dog"),
        ({"region": {"box": [0.5, 0.1, 0.4, 0.9]}}, f"{REGION}.box", "region 1: box .* x0 < x1"),
        (
            {"region": {"box": [0.5, 0.1, 0.9]}},
            f"{REGION}.box",
            r"four numbers, \[x0, y0, x1, y1\]",
        ),
        ({"region": {"box": None}}, f"{REGION}.box", "has no place: give one of box, mask"),
        ({"region": {"box": [0, 0, 1, "1"]}}, f"{REGION}.box", "four numbers"),
        ({"region": {"prompt": "a dog, sitting"}}, f"{REGION}.prompt", "write <dog> in it"),
        ({"region": {"boks": 1}}, f"{REGION}.boks", r"unknown key boks \(valid: box, concept"),
        ({"background": "rock"}, "prompt", "write <rock> in it"),
        ({"name": "a b"}, "name", "letters, digits, - and _"),
        ({"width": 0}, "width", "width must be above 0"),
        ({"width": "wide"}, "width", "width=wide: expected a whole number"),
        ({"size": 3}, "size", "unknown key size"),
        ({"regions": {}}, "regions", "regions={}: expected a list"),
        ({"regions": None}, "regions", "regions=null: expected a list"),
        (
            {"regions": [7]},
            REGION,
            "region 1: expected keys and values .concept, prompt., got 7",
        ),
        (
            {"regions": [None]},
            f"{REGION}.concept",
            "region 1: concept, prompt are missing",
        ),
        ({"conditions": False}, "conditions", "expected a list"),
        ({"width": 2**20}, "width", "at most 16384"),
        ({"height": 10**400}, "height", "at most 16384"),
        ({"name": "a" * 260}, "name", "too long to be the name of a file"),
        ({"name": 7}, "name", "name=7: expected text: write it in quotes"),
        ({"prompt": "half \ud83d"}, "prompt", "character 6 is half of a character"),
        ({"negative_prompt": "a\0b"}, "negative_prompt", "NUL"),
        ({"background": False}, "background", "expected text"),
        (
            {"region": {"negative_prompt": False}},
            f"{REGION}.negative_prompt",
            "region 1: negative_prompt=false: expected text",
        ),
        ({"region": {"negative_prompt": ["a", "b"]}}, f"{REGION}.negative_prompt", "expected text"),
        (
            {"region": {"strength": float("inf")}},
            f"{REGION}.strength",
            "strength=inf: expected a finite number",
        ),
        ({"region": {"strength": float("nan")}}, f"{REGION}.strength", "expected a finite number"),
        ({"region": {"strength": 10**400}}, f"{REGION}.strength", "expected a finite number"),
        (
            {"region": {"strength": "1e-1"}},
            f"{REGION}.strength",
            "strength='1e-1': expected a number",
        ),
        ({"region": {"box": [0, 0, 1, 10**400]}}, f"{REGION}.box", "four numbers"),
        ({"region": {"concept": "a" * 260, "prompt": "x"}}, f"{REGION}.concept", "too long"),
        (
            {"region": {"concept": "v1.5 b.safetensors", "prompt": "<v1.5 b>"}},
            f"{REGION}.concept",
            r"'v1.5 b': a name has .*: rename it, or run toolkit import 'v1.5 b.safeten",
        ),
        ({"background": "a b.pt"}, "background", r"toolkit import 'a b.pt' .* write background:"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: dict, path: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^scene1\.yaml: .*{message}") as caught:
        read(**change)
    assert caught.value.path == path


def test_the_place_counts_from_the_first_region_and_the_message_from_one() -> None:
    dog, cat = content()["regions"] * 2
    wrong = [dog, cat | {"box": [0, 0, 2, 1]}]
    with pytest.raises(InputError, match=r"^here: region 2: box") as caught:
        layout_from_mapping(content(regions=wrong), "here")
    assert caught.value.path == "regions[1].box"


CONDITION = {"type": "controlnet", "model": "m", "image": "pose.png"}


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"type": "depth"}, "conditions[0].type", "type=depth: expected one of controlnet, t2i"),
        ({"image": "https://x.org/a.png"}, "conditions[0].image", "no URL"),
        ({"weight": "1"}, "conditions[0].weight", "condition 1: weight='1': expected a number"),
        ({"region_weights": ["x"]}, "conditions[0].region_weights", r"numbers \(or null\)"),
        ({"region_weights": [1, 2]}, "conditions[0].region_weights", "2 region_weights for 1"),
    ],
)
def test_what_is_wrong_with_a_condition_is_said_with_its_place(
    change: dict, path: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(conditions=[CONDITION | change])
    assert caught.value.path == path


def test_two_concepts_of_one_name_are_told_at_the_second() -> None:
    twin = content()["regions"][0] | {"concept": "loras/dog.pth"}
    with pytest.raises(InputError, match="would both be <dog>") as caught:
        read(regions=[*content()["regions"], twin])
    assert caught.value.path == "regions[1].concept"


def test_a_missing_key_is_named() -> None:
    for key in ("name", "prompt", "width", "height", "regions"):
        incomplete = content()
        del incomplete[key]
        with pytest.raises(InputError, match=f"scene1.yaml: {key} is missing") as caught:
            layout_from_mapping(incomplete, "scene1.yaml")
        assert caught.value.path == key


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
