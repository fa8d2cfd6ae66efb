"""One reader of plain values: what does not fit is told with its key, and its place."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from toolkit.errors import InputError
from toolkit.text.dataclass_values import read_dataclass


@dataclass(frozen=True)
class Leg:
    length: float
    kind: Literal["front", "back"] = "front"

    def __post_init__(self) -> None:
        if self.length < 0:
            raise InputError("length must be at least 0", "length")


@dataclass(frozen=True)
class Cat:
    name: str
    head: Leg
    legs: tuple[Leg, ...] = ()
    names: tuple[str, ...] = ()
    home: Path | None = None
    age: int = 3
    tags: list[str] = field(default_factory=list)


GOOD: dict[str, Any] = {"name": "tom", "head": {"length": 1}}


def test_values_become_the_types_that_are_expected() -> None:
    cat = read_dataclass(Cat, GOOD | {"legs": [{"length": 2, "kind": "back"}], "home": "there/x"})
    assert cat == Cat("tom", Leg(1.0), (Leg(2.0, "back"),), home=Path("there/x"))


def test_nothing_after_a_key_is_nothing_where_that_is_the_default() -> None:
    assert read_dataclass(Cat, GOOD | {"legs": None, "home": None}) == read_dataclass(Cat, GOOD)
    with pytest.raises(InputError, match="age=null: expected a whole number"):
        read_dataclass(Cat, GOOD | {"age": None})
    with pytest.raises(InputError, match="legs=null: expected a list"):
        read_dataclass(Cat, GOOD | {"legs": None}, also_needed=("legs",))


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        ({"head": {"length": "1"}}, "head.length", "head.length='1': expected a number"),
        ({"head": {"length": -1}}, "head.length", "at least 0"),
        ({"head": 5}, "head", "head: expected keys and values (length), got 5"),
        ({"head": {}}, "head.length", "head.length is missing"),
        ({"legs": [{"length": 1}, {"length": -1}]}, "legs[1].length", "leg 2: length must be"),
        (
            {"legs": [{"length": 1, "kynd": "x"}]},
            "legs[0].kynd",
            "leg 1: unknown key kynd (nearest",
        ),
        ({"legs": [{"length": 1, "kind": "x"}]}, "legs[0].kind", "expected one of front, back"),
        ({"names": ["a", 7]}, "names", "names=['a', 7]: expected a list of texts"),
        ({"age": True}, "age", "age=true: expected a whole number"),
        ({"name": 7}, "name", "name=7: expected text: write it in quotes"),
        ({"name": "a\0"}, "name", "NULs"),
        ({"home": "s3://x"}, "home", "home=s3://x: expected a path on this machine, no URL"),
        ({"\ud83d": 1}, "\ud83d", "unknown key '\\ud83d'"),
    ],
)
def test_what_does_not_fit_is_told_with_its_key_and_its_place(
    change: dict[str, Any], path: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_dataclass(Cat, GOOD | change)
    assert said in str(caught.value)
    assert caught.value.path == path
