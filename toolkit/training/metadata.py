"""Captions that stand in one file for a whole folder: Hugging Face's and kohya's."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import InputError, within
from toolkit.text.dataclass_values import read_value
from toolkit.text.files import read_text, split_lines
from toolkit.text.json_values import read_json
from toolkit.text.wording import listed

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.json")
"""In the order in which they are asked; the first that is there holds."""

_TEXT = ("text", "caption", "prompt")  # columns that hold a caption; the first that is there


@dataclass
class Metadata:
    """What a folder's metadata says.

    file: where it stands; None for a folder without.
    captions: of images, None for one that has no text.
    unused: what in the metadata is not used, and why, in words.
    """

    file: Path | None = None
    captions: dict[Path, str | None] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def read_metadata(folder: Path, images: Sequence[Path]) -> Metadata:
    """The metadata of `folder`, in which `images` lie.

    Raises InputError, with file and line, for what is no metadata, or names an image that is not
    there.
    """
    file = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    if file is None:
        return Metadata()
    text = read_text(file)
    if file.suffix == ".json":
        return _from_json(file, text, images)
    rows = _json_lines(file, text) if file.suffix == ".jsonl" else _csv(file, text)
    return _from_rows(file, rows, images)


def _json_lines(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(split_lines(text), 1):
        if line.strip():
            where = f"{file}, line {number}"
            yield where, read_json(line, where)


def _csv(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = rows.fieldnames or []
        if "file_name" not in columns or len(set(columns)) < len(columns):
            raise InputError(
                f"{file}, line 1: needs the columns file_name and text, once each and with commas "
                f"between them; it has: {' | '.join(columns)}"
            )
        for row in rows:
            where = f"{file}, line {rows.line_num}"
            if None in row:
                raise InputError(
                    f"{where}: more values than columns; a text with commas needs quotes"
                )
            yield where, {key: value for key, value in row.items() if value}
    except csv.Error as error:
        raise InputError(f"{file}, line {rows.line_num + 1}: {error}") from error


def _from_rows(file: Path, rows: Iterator[tuple[str, Any]], images: Sequence[Path]) -> Metadata:
    found = Metadata(file)
    known = {image.resolve(): image for image in images}  # `more/../a.png` is `a.png`
    others: dict[str, int] = {}
    repeated: list[str] = []
    for where, row in rows:
        if not isinstance(row, Mapping) or "file_name" not in row:
            raise InputError(f"{where}: must be a JSON object with file_name and text")
        name = _text(row, "file_name", where)
        image = _existing(file.parent / name)
        if image is None:
            raise InputError(f"{where}: there is no image {file.parent / name}")
        image = known.get(image.resolve(), image)
        column = next((column for column in _TEXT if row.get(column) is not None), None)
        caption = None if column is None else _text(row, column, where)
        if image in found.captions and found.captions[image] != caption:
            repeated.append(name)
        found.captions[image] = caption
        for key in row:
            if key not in ("file_name", column):
                others[key] = others.get(key, 0) + 1
    if others:
        counted = ", ".join(f"{key} ({count})" for key, count in others.items())
        found.unused.append(f"of {file.name}, columns that are no caption: {counted}")
    if repeated:
        found.unused.append(
            f"of {file.name}, all but the last line of {', '.join(dict.fromkeys(repeated))}"
        )
    return found


def _from_json(file: Path, text: str, images: Sequence[Path]) -> Metadata:
    content = read_json(text, str(file))
    if isinstance(content, list):
        entries = ((f"{file}, entry {number}", row) for number, row in enumerate(content, 1))
        return _from_rows(file, entries, images)
    if not isinstance(content, dict) or not all(map(_is_kohya, content.values())):
        what = "it is not kohya's form, IMAGE: {caption, tags}"
        return Metadata(file, unused=[f"{file.name}: {what}"])
    named = {image.stem: image for image in images} | {image.name: image for image in images}
    found, missing = Metadata(file), []
    for key, entry in content.items():
        image = _existing(file.parent / key) or named.get(re.split(r"[/\\]", key)[-1])
        if image is None:
            missing.append(key)
            continue
        texts = [
            _text(entry, part, f"{file}: {key}") for part in ("caption", "tags") if entry.get(part)
        ]
        found.captions[image] = ", ".join(texts) or None
    if missing:
        found.unused.append(
            f"of {file.name}, captions of images that are not there: {listed(missing)}"
        )
    return found


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    with within(key, where):
        text: str = read_value(row[key], str, key)
        return text


def _is_kohya(entry: object) -> bool:
    return isinstance(entry, Mapping) and bool({"caption", "tags"} & set(entry))


def _existing(path: Path) -> Path | None:
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None
