"""Whatever is wrong with a layout or a line is an InputError, for that line alone."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.batch.asked import folder_of
from toolkit.concept import Concept
from toolkit.concept.concept import tokens_of
from toolkit.config import read_compose, read_sample, read_train
from toolkit.errors import InputError
from toolkit.layout.files import read_layouts, read_lines
from toolkit.layout.layout import Layout
from toolkit.layout.mapping import layout_from_mapping, layout_to_mapping
from toolkit.methods.prompts import remarks_on
from toolkit.methods.reading import own_prompts

GOOD: dict[str, Any] = {
    "name": "good",
    "prompt": "a <dog> and a cat",
    "negative_prompt": "blurry",
    "width": 256,
    "height": 128,
    "background": None,
    "regions": [
        {"concept": "dog", "prompt": "<dog>", "box": [0.1, 0.1, 0.4, 0.9], "strength": 0.7},
        {"concept": "loras/cat.pth", "prompt": "<cat>", "box": [0.6, 0, 1, 1]},
    ],
    "conditions": [
        {"type": "controlnet", "model": "m", "image": "pose.png", "region_weights": [1, None]}
    ],
}
DEEP = "[" * 3000 + "]" * 3000
NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2**20, 2**63, 2**64, 10**400, -(10**400), 0.5, -0.0, 1e308,
    float("nan"), float("inf"), float("-inf"), "", " ", "a", "no", "\0", "a\0b", "\ud83d",
    "\udc80 <dog>", "a" * 260, "犬" * 90, "<dog>" * 50_000, "../../x", "/etc/passwd", "~", "~/x",
    "~nobody/x.pth", "x/" * 3000 + ".pth", "a" * 300 + ".safetensors", "a b", "\u2028", "\x85",
    "<dog1>", "<>", "<", "{}", [], {}, [[]], [{}], {"a": 1}, [0, 0, 1, 1], [0, 0, 1, 10**400],
    ["0", 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0], [float("nan")] * 4, [None] * 4, [True] * 4,
    list(range(5000)), {str(number): number for number in range(500)},
]  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in `content`."""
    keys: list[Any] = []
    if isinstance(content, dict):
        keys = list(content)
    elif isinstance(content, list):
        keys = list(range(len(content)))
    below = [place for key in keys for place in places(content[key], (*path, key))]
    return [(*path, key) for key in keys] + below


def mutated(draw: random.Random) -> dict[str, Any]:
    """The good layout with one to three values replaced, removed, doubled or added."""
    content = copy.deepcopy(GOOD)
    for _ in range(draw.randint(1, 3)):
        found = places(content)
        if not found:
            break
        *way, last = draw.choice(found)
        into = content
        for key in way:
            into = into[key]
        change = draw.random()
        if change < 0.7:
            into[last] = copy.deepcopy(draw.choice(NASTY))
        elif change < 0.8:
            del into[last]
        elif isinstance(into, list):
            into.append(copy.deepcopy(into[last]))
        else:
            into[draw.choice(["nme", "", "\ud83d", "prompt", "a" * 5000])] = into[last]
    return content


def damaged(text: str, draw: random.Random) -> str:
    """A line cut, with characters changed, or nested too deeply."""
    way = draw.randrange(5)
    if way == 0:
        return text[: draw.randrange(len(text))]
    if way == 1:
        place = draw.randrange(len(text))
        return text[:place] + chr(draw.randrange(1, 0xD000)).replace("\n", "") + text[place + 1 :]
    if way == 2:
        return text.replace('"prompt": ', f'"prompt": {DEEP * 20}, "p": ', 1)
    if way == 3:
        return text.replace("256", "9" * draw.choice([20, 400, 5000]), 1)
    return draw.choice([DEEP * 20, "null", "[]", '"x"', "NaN", "{}", "\ufeff{}", text + text])


def fine_or_input_error(read: Callable[[], object]) -> bool:
    """Whether it reads; an error of another kind than InputError fails the test."""
    try:
        read()
    except InputError as error:
        assert 0 < len(str(error)) < 2000 and "\n" not in str(error)
        return False
    return True


def concept(name: str) -> Concept:
    return Concept(name, torch.zeros(2, 16, 4), tokens_of(name, 2), {}, {}, class_word="thing")


def test_a_mutated_layout_is_a_layout_or_an_input_error() -> None:
    draw = random.Random(0)
    layouts: list[Layout] = []
    for _ in range(2000):
        content = mutated(draw)
        fine_or_input_error(
            lambda content=content: layouts.append(layout_from_mapping(content, "here"))
        )
    assert 50 < len(layouts) < 1900
    for layout in layouts:
        assert layout_from_mapping(layout_to_mapping(layout), "again") == layout
        json.dumps(layout_to_mapping(layout), allow_nan=False).encode()
        concepts = {name: concept(Path(name).stem or "x") for name in layout.concepts}
        own_prompts(layout, concepts)
        remarks_on(layout, concepts)


def test_wrong_lines_do_not_take_good_ones_along(tmp_path: Path) -> None:
    draw = random.Random(1)
    lines = []
    for number in range(1000):
        text = json.dumps(mutated(draw) if number % 2 else GOOD)
        lines.append(damaged(text, draw) if number % 4 < 2 else text)
        lines[-1] = lines[-1].replace("\r", "").replace("\ud83d", "")
        lines.append(json.dumps(GOOD | {"name": f"good{number}"}))
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    found = read_lines(path)
    names = {layout.name for layout in found.layouts.values()}
    assert {f"good{number}" for number in range(1000)} <= names
    assert len(found.rejected) > 300
    for wrong in found.rejected:
        assert 0 < len(wrong.error) < 2000
        json.dumps([wrong.name, wrong.error])


def test_a_mutated_yaml_file_is_a_layout_or_an_input_error(tmp_path: Path) -> None:
    draw = random.Random(2)
    path = tmp_path / "a.yaml"
    for _ in range(200):
        text = json.dumps(mutated(draw))
        path.write_text(text.replace("\ud83d", ""), encoding="utf-8")
        fine_or_input_error(lambda: read_layouts([path]))


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5000, "1e999", "-1", "0x10", "[9223372036854775808]", "[" * 5000, "[1,[2]]", "{a: 1}",
        "[1.5]", "&a [*a]", "!!python/object:os.system x", "[1, null]", "10001", "1,,2", "null",
        "²", "٣", "[true]",
    ],
)  # fmt: skip
def test_seeds_and_numbers_typed_wrongly_are_input_errors(text: str) -> None:
    for key in ("seeds", "batch_size", "trainer.devices"):
        fine_or_input_error(lambda key=key: read_compose(["layout=scene1", f"{key}={text}"]))
    for key in ("training.steps", "training.learning_rate_unet", "training.seed"):
        fine_or_input_error(lambda key=key: read_train(["concept=dog", f"{key}={text}"]))


def test_any_prompt_is_a_layout_or_an_input_error() -> None:
    draw = random.Random(3)
    letters = "<>()[]:{}=,~ abdog12é犬🐶\0\ud83d\u2028\n\t\\'\""
    for _ in range(500):
        prompt = "<dog> " + "".join(draw.choice(letters) for _ in range(draw.randrange(60)))

        def read(prompt: str = prompt) -> None:
            config = read_sample(["concept=dog", f"prompt={prompt}"])
            name = folder_of(config.prompt, "dog")
            layout = Layout(name, config.prompt, 64, 64, background="dog")
            own_prompts(layout, {"dog": concept("dog")})
            remarks_on(layout, {"dog": concept("dog")})

        fine_or_input_error(read)
