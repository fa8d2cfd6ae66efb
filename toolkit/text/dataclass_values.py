"""Plain values, as YAML and JSON hold them, read into dataclasses: every key and type is checked.

What is expected stands in the dataclass: its fields' types, and which of them have a default. A
type may say itself what a message expects, as `Annotated[tuple[float, float], "two numbers"]`.
"""

import re
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from toolkit.errors import InputError, shortened, shown, within
from toolkit.files import from_home
from toolkit.names import check_characters
from toolkit.text.numbers import LARGEST, is_number
from toolkit.text.suggest import nearest
from toolkit.text.yaml_values import read_scalar

Schema = TypeVar("Schema")


def read_dataclass(
    schema: type[Schema], content: object, key: str = "", also_needed: Collection[str] = ()
) -> Schema:
    """The dataclass `schema` from keys and values; None is no keys.

    key: where `content` stands, as messages name it, dotted.
    also_needed: fields that must be given although they have a default.
    Nothing after a key, as in `negative_prompt:`, is nothing: for a field whose default is empty,
    None is that default.
    Raises InputError, whose path begins in `content`.
    """
    content = {} if content is None else content
    known = {field.name: field for field in fields(schema)}  # type: ignore[arg-type]
    types_of = _annotations(schema)  # type: ignore[arg-type]
    needed = [
        name
        for name, field in known.items()
        if name in also_needed
        or (default_of(field) is MISSING and not is_dataclass(types_of[name]))
    ]
    if not isinstance(content, Mapping):
        before = f"{key}: " if key else ""
        named = f" ({', '.join(needed)})" if needed else ""
        raise InputError(f"{before}expected keys and values{named}, got {shown(content)}")
    prefix = f"{key}." if key else ""
    _check_keys(content, known, needed, prefix)
    values = {}
    for name, field in known.items():
        if name in content or is_dataclass(types_of[name]):
            value = content.get(name)
            if value is None and name not in needed and default_of(field) in ("", ()):
                continue
            with within(name):
                values[name] = read_value(value, types_of[name], prefix + name)
    return schema(**values)


def read_value(value: object, annotation: Any, key: str, written: str | None = None) -> Any:
    """`value` as `annotation` wants it, or InputError that says what is expected at `key`.

    written: the value as the person typed it, for the message, where that is known.
    """
    return _read(value, annotation, _Asked(key, value, written, annotation))


def default_of(field: "Field[Any]") -> Any:
    """A field's default, made if it is made by a factory; MISSING when it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def without_none(annotation: Any) -> Any:
    """X of `X | None`; any other type as it is."""
    if get_origin(annotation) in (types.UnionType, typing.Union):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    return annotation


def is_choice(wanted: Any) -> bool:
    """Whether a type is one of some names: a Literal, or an Enum."""
    return get_origin(wanted) is Literal or (isinstance(wanted, type) and issubclass(wanted, Enum))


@dataclass(frozen=True)
class _Asked:
    """One key's value and what is expected of it, for the message when it is something else."""

    key: str
    value: object
    written: str | None
    annotation: Any

    def error(self, value: object, expected: str = "") -> InputError:
        """What is wrong with `value`, which is the key's or one in the key's list.

        expected: of the key's own value, what to say in place of what the type says.
        """
        said = expected if expected and value is self.value else self._expected()
        return InputError(f"{self.key}={self._as_written()}: expected {said}")

    def _as_written(self) -> str:
        if self.written is not None:
            return shortened(self.written)
        text = self.value
        if text is None or isinstance(text, bool):
            return {None: "null", True: "true", False: "false"}[text]
        # As YAML has it: text without quotes, unless it would be no text without them.
        if isinstance(text, str) and text.isprintable() and isinstance(read_scalar(text), str):
            return shortened(text)
        return shown(text)

    def _expected(self) -> str:
        if get_origin(self.annotation) is Annotated:
            return str(get_args(self.annotation)[1])
        wanted = without_none(self.annotation)
        if is_choice(wanted):
            return f"one of {', '.join(map(str, _choices(wanted)))}"
        if get_origin(wanted) is tuple:
            item = get_args(wanted)[0]
            or_null = " (or null)" if without_none(item) is not item else ""
            what, example = _LISTS.get(without_none(item), ("", "[...]"))
            return f"a list{what}{or_null}, as {self.key}={example}"
        what, example = _SINGLE[wanted]
        return f"{what}, as {self.key}={example}"


def _check_keys(
    content: Mapping[Any, Any], known: Collection[str], needed: Sequence[str], prefix: str
) -> None:
    for given in content:
        if given not in known:
            name = shortened(str(given))
            unknown = prefix + (name if name.isprintable() else shown(name))
            raise InputError(f"unknown key {unknown} ({nearest(name, known)})", str(given))
    missing = [name for name in needed if name not in content]
    if missing:
        names = ", ".join(prefix + name for name in missing)
        advice = " ".join(f"{prefix}{name}=..." for name in missing)
        verb = "is" if len(missing) == 1 else "are"
        raise InputError(f"{names} {verb} missing: give {advice}", missing[0])


def _read(value: Any, annotation: Any, asked: _Asked) -> Any:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    wanted = without_none(_alternative(annotation, value))
    if value is None and wanted is not annotation:
        return None
    if is_dataclass(wanted) and isinstance(wanted, type):
        return value if isinstance(value, wanted) else read_dataclass(wanted, value, asked.key)
    if get_origin(wanted) is tuple:
        return _read_list(value, get_args(wanted), asked)
    if is_choice(wanted):
        for choice in _choices(wanted):
            if value == choice:
                return choice
        raise asked.error(value)
    if wanted in (str, Path) and isinstance(value, str):
        check_characters(asked.key, value)
    if wanted is Path and isinstance(value, str | Path) and value != "":
        if re.match(r"\w+://", str(value)):
            raise asked.error(value, "a path on this machine, no URL")
        return from_home(value)
    if wanted is float and is_number(value):
        return float(value)
    if wanted is float and type(value) in (int, float):
        raise asked.error(value, f"a finite number, at most {LARGEST:g}")
    if wanted is not float and type(value) is wanted:
        return value
    if wanted is str and isinstance(value, int | float):
        raise asked.error(value, "text: write it in quotes")
    raise asked.error(value)


def _alternative(annotation: Any, value: object) -> Any:
    """Of a plain type or a dataclass the one that `value` is meant as; any other type as it is."""
    parts = (
        get_args(annotation) if get_origin(annotation) in (types.UnionType, typing.Union) else ()
    )
    classes = [part for part in parts if is_dataclass(part)]
    if len(parts) == 2 and len(classes) == 1 and type(None) not in parts:
        (other,) = (part for part in parts if part is not classes[0])
        given = isinstance(value, (Mapping, classes[0]))  # type: ignore[arg-type]
        return classes[0] if given else other
    return annotation


def _read_list(value: Any, items: tuple[Any, ...], asked: _Asked) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise asked.error(value)
    if items[-1] is not Ellipsis and len(value) != len(items):
        raise asked.error(value)
    if not is_dataclass(items[0]):
        return tuple(_read(part, items[0], asked) for part in value)
    found = []
    for number, part in enumerate(value):
        with within(f"[{number}]", f"{asked.key.removesuffix('s')} {number + 1}"):
            found.append(_read(part, items[0], _Asked("", part, None, items[0])))
    return tuple(found)


def _choices(wanted: Any) -> tuple[Any, ...]:
    return get_args(wanted) or tuple(wanted)


@cache
def _annotations(schema: type) -> dict[str, Any]:
    return get_type_hints(schema, include_extras=True)


_SINGLE = {
    bool: ("true or false", "true"),
    int: ("a whole number", "4"),
    float: ("a number", "0.5"),
    str: ("text", "words"),
    Path: ("a path", "folder/name"),
}
_LISTS = {
    str: (" of texts, numbers in quotes", "[a, b]"),
    float: (" of numbers", "[0.5, 1]"),
}
