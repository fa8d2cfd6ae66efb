"""Layouts from files: one in each YAML file, many in a JSONL file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.errors import InputError, shortened, within
from toolkit.files import from_home
from toolkit.layout.areas import check_areas
from toolkit.layout.layout import Layout, is_file
from toolkit.layout.mapping import layout_from_mapping
from toolkit.text.files import read_text, split_lines
from toolkit.text.json_values import read_json
from toolkit.text.yaml_values import read_yaml


@dataclass(frozen=True)
class Rejected:
    """A layout that cannot be made, and why. line: where it stands in a JSONL file."""

    line: int
    name: str | None
    error: str


@dataclass(frozen=True)
class Lines:
    """What a JSONL file holds: layouts by the number of their line, and lines that are none."""

    layouts: Mapping[int, Layout]
    rejected: tuple[Rejected, ...]


def read_layouts(files: Sequence[Path]) -> list[Layout]:
    """One layout of each YAML file. Raises InputError for a wrong one, or names that repeat."""
    layouts: dict[str, Layout] = {}
    for path in files:
        content = read_yaml(read_text(path), str(path))
        if not isinstance(content, dict):
            raise InputError(f"{path}: is no layout")
        layout = _found_from(path.parent, layout_from_mapping(content, str(path)))
        if layout.name in layouts:
            raise InputError(f"two layouts are named {layout.name}: names must differ", "name")
        layouts[layout.name] = layout
    return list(layouts.values())


def read_lines(path: Path) -> Lines:
    """Every line of a JSONL file, the wrong ones with their reason.

    A name that stands twice is wrong from its second line on. Raises InputError when the file
    cannot be read or has no line.
    """
    layouts: dict[int, Layout] = {}
    rejected: list[Rejected] = []
    first_lines: dict[str, int] = {}
    for number, line in enumerate(split_lines(read_text(path)), 1):
        if not line.strip():
            continue
        name: str | None = None
        try:
            content = read_json(line, "the line")
            if not isinstance(content, dict):
                raise InputError("is no layout")
            name = shortened(str(content["name"])) if "name" in content else None
            layout = _found_from(path.parent, layout_from_mapping(content, "layout"))
            if layout.name in first_lines:
                raise InputError(
                    f"name {layout.name} stands in line {first_lines[layout.name]} already", "name"
                )
        except InputError as error:
            rejected.append(Rejected(number, name, str(error)))
        else:
            first_lines[layout.name] = number
            layouts[number] = layout
    if not layouts and not rejected:
        raise InputError(f"{path}: holds no layout")
    return Lines(layouts, tuple(rejected))


def _found_from(folder: Path, layout: Layout) -> Layout:
    """The layout with the files it names found: in the working directory, or in `folder`.

    Raises InputError for a mask that cannot be one of this layout.
    """

    def find(path: Path, place: str) -> Path:
        path = from_home(path)
        try:
            return folder / path if not path.exists() and (folder / path).exists() else path
        except OSError as error:
            raise InputError(f"{shortened(str(path))}: {error.strerror}", place) from error

    def find_concept(concept: str, place: str) -> str:
        return str(find(Path(concept), place)) if is_file(concept) else concept

    found = replace(
        layout,
        background=find_concept(layout.background, "background") if layout.background else None,
        regions=tuple(
            replace(
                region,
                concept=find_concept(region.concept, f"regions[{number}].concept"),
                mask=region.mask and find(region.mask, f"regions[{number}].mask"),
            )
            for number, region in enumerate(layout.regions)
        ),
        conditions=tuple(
            replace(
                condition,
                image=find(condition.image, f"conditions[{number}].image"),
                model=str(find(Path(condition.model), f"conditions[{number}].model")),
            )
            for number, condition in enumerate(layout.conditions)
        ),
    )
    with within("", f"layout {layout.name}"):
        check_areas(found)
    return found
