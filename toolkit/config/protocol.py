"""Protocols: whole tables of a paper, as settings, methods and rows of `configs/protocol`."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.config.arguments import names
from toolkit.config.lookup import find_config
from toolkit.errors import InputError, within
from toolkit.names import check_name
from toolkit.text.dataclass_values import read_dataclass
from toolkit.text.files import read_text
from toolkit.text.yaml_values import read_yaml

HIGHEST_SEED = 20000
"""Of the seeds that the paper's code draws; the lowest is 1."""


@dataclass(frozen=True)
class Setting:
    """Layouts that have the same seeds.

    layouts: a JSONL file beside the protocol's. random_seed: what the seeds are drawn from, as the
    paper's code does; None: 0, 1, 2 and so on.
    """

    layouts: str
    random_seed: int | None = None

    def seeds(self, images: int) -> tuple[int, ...]:
        """As many seeds as `images`, none twice."""
        if self.random_seed is None:
            return tuple(range(images))
        drawn = random.Random(self.random_seed)
        seeds: dict[int, None] = {}
        while len(seeds) < images:
            seeds[drawn.randint(1, HIGHEST_SEED)] = None
        return tuple(seeds)


@dataclass(frozen=True)
class Style:
    """Settings on one base, a name of configs/model: a column of the tables."""

    name: str
    model: str
    settings: tuple[Setting, ...]

    def __post_init__(self) -> None:
        with within("name"):
            check_name("style", self.name)


@dataclass(frozen=True)
class Row:
    """A row of a table: a method, or pictures that another program made, as pictures.NAME=FOLDER.

    conditions: with the images of the layouts' conditions, and only on layouts that have any.
    styles: where it has a value; empty: everywhere.
    """

    name: str
    method: str | None = None
    pictures: str | None = None
    conditions: bool = False
    styles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.method is None) == (self.pictures is None):
            raise InputError(f"row {self.name}: give it either a method or pictures", "method")

    @property
    def source(self) -> str:
        """What its pictures are called in scores and ratings."""
        return self.method or self.pictures or ""

    def holds_for(self, style: Style) -> bool:
        """Whether it has a value in the style's column."""
        return not self.styles or style.name in self.styles


@dataclass(frozen=True)
class Table:
    """A table to make. concepts: of layouts with so many, the background's counted; () of all.

    ratings: of what people answered on the page of `toolkit rate`, and not of a judge's scores.
    """

    name: str
    rows: tuple[Row, ...]
    concepts: tuple[int, ...] = ()
    ratings: bool = False

    def __post_init__(self) -> None:
        with within("name"):
            check_name("table", self.name)


@dataclass(frozen=True)
class _Written:
    """What a file holds besides the names of concepts, which are keys of the person's own."""

    name: str
    judge: str
    images: int
    seconds_per_picture: float
    styles: tuple[Style, ...]
    tables: tuple[Table, ...]
    folder: Path


@dataclass(frozen=True)
class Protocol(_Written):
    """Tables, and what must be composed and scored for them.

    judge: as `judge=` takes it; the tables are by the first. images: of each layout.
    seconds_per_picture: for an estimate, until there are pictures. concepts: the layouts' names of
    concepts to the names that they have here. folder: where the layouts' files lie.
    """

    concepts: Mapping[str, str] = field(default_factory=dict)

    @property
    def pictures(self) -> Mapping[str, str]:
        """Names of pictures that other programs make, and the first row of each."""
        rows = [row for table in self.tables for row in table.rows]
        return {row.pictures: row.name for row in reversed(rows) if row.pictures}

    @property
    def first_judge(self) -> str:
        """Whose scores stand in the tables."""
        return names(self.judge, "judge")[0]


def read_protocol(name: str) -> Protocol:
    """The protocol `configs/protocol/NAME.yaml`. Raises InputError naming what is wrong in it."""
    file = find_config("protocol", name)
    content = read_yaml(read_text(file), str(file))
    if not isinstance(content, dict):
        raise InputError(f"{file}: must hold keys and values")
    renamed = _names(content.pop("concepts", None) or {}, file)
    with within("", str(file)):
        given: dict[str, Any] = {**content, "name": name, "folder": file.parent}
        read = read_dataclass(_Written, given)
        if read.images < 1:
            raise InputError(f"images must be at least 1, got {read.images}", "images")
    return Protocol(**vars(read), concepts=renamed)


def _names(content: object, file: Path) -> dict[str, str]:
    if not isinstance(content, dict):
        raise InputError(f"{file}: concepts: expected names, as {{hina: my_girl}}", "concepts")
    for name in content.values():
        with within("concepts", str(file)):
            check_name("concept", str(name))
    return {str(theirs): str(ours) for theirs, ours in content.items()}
