"""Text that a person typed, and values that a YAML file holds, checked against a schema's types."""

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from toolkit.config.keys import default_of
from toolkit.config.schema import TrainerConfig
from toolkit.config.trainer import check_trainer_argument
from toolkit.errors import InputError, shortened
from toolkit.files import from_home
from toolkit.text.numbers import is_number
from toolkit.text.suggest import nearest
from toolkit.text.yaml_values import read_scalar

Schema = TypeVar("Schema")


def parse(text: str, annotation: Any, where: str) -> Any:
    """What `text` means where `annotation` is expected.

    Text and paths are taken verbatim, lists of text too unless they are written [one, two]; all
    else is YAML. `null` is None where None is allowed.
    """
    wanted = _without_none(annotation)
    if text == "null" and wanted is not annotation:
        return None
    if wanted in (str, Path) or _is_choice(wanted):
        return check(text, annotation, where)
    if get_origin(wanted) is tuple and get_args(wanted)[0] is str:
        listed = text.startswith("[") and text.endswith("]")
        return check(_texts(text) if listed else [text], annotation, where, text)
    return check(read_scalar(text), annotation, where, text)


def check(value: Any, annotation: Any, where: str, shown: Any = None) -> Any:
    """`value` as `annotation` wants it, or InputError that says what was expected at `where`.

    shown: the value as the person wrote it, for the message.
    """
    shown = value if shown is None else shown
    wanted = _without_none(annotation)
    if value is None and wanted is not annotation:
        return None
    if is_dataclass(wanted) and isinstance(wanted, type):
        return value if isinstance(value, wanted) else build(wanted, value, where)
    if get_origin(wanted) is tuple and isinstance(value, list | tuple):
        item = get_args(wanted)[0]
        return tuple(check(part, item, where, shown) for part in value)
    if _is_choice(wanted):
        return _choose(value, wanted, where)
    if wanted is Path and re.match(r"\w+://", str(value)):
        raise InputError(
            f"{where}={shortened(str(shown))}: expected a path on this machine, no URL"
        )
    if wanted is Path and isinstance(value, str | Path) and value != "":
        return from_home(value)
    if wanted is float and is_number(value):
        return float(value)
    if wanted is not float and isinstance(wanted, type) and type(value) is wanted:
        return value
    if wanted is str and isinstance(value, int | float):
        raise InputError(f"{where}={shown}: expected text: write it in quotes")
    expected, example = _EXPECTED.get(wanted, ("a list", "[a, b]"))
    raise InputError(f"{where}={shortened(str(shown))}: expected {expected}, as {where}={example}")


def build(schema: type[Schema], content: Any, where: str = "") -> Schema:
    """The dataclass `schema` from what YAML held, every key and value checked."""
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise InputError(f"{where}: expected keys and values, got {content!r}")
    if schema is TrainerConfig:
        for name in content:
            check_trainer_argument(str(name))
        return schema(arguments=dict(content))  # type: ignore[call-arg]
    annotations = get_type_hints(schema)
    prefix = f"{where}." if where else ""
    for key in content:
        if key not in annotations:
            raise InputError(f"unknown key {prefix}{key} ({nearest(str(key), annotations)})")
    values = {}
    for field in fields(schema):  # type: ignore[arg-type]
        name = field.name
        if name in content:
            values[name] = check(content[name], annotations[name], prefix + name)
        elif is_dataclass(annotations[name]):
            values[name] = check({}, annotations[name], prefix + name)
        elif default_of(field) is MISSING:
            raise InputError(f"{prefix}{name} is missing: give {prefix}{name}=...")
    return schema(**values)


def _texts(text: str) -> Any:
    """`[one, 7]` as a list in which everything is text."""
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def _without_none(annotation: Any) -> Any:
    """X of `X | None`; any other type as it is."""
    if get_origin(annotation) in (types.UnionType, typing.Union):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    return annotation


def _is_choice(wanted: Any) -> bool:
    return get_origin(wanted) is Literal or (isinstance(wanted, type) and issubclass(wanted, Enum))


def _choose(value: Any, wanted: Any, where: str) -> Any:
    known = get_args(wanted) or tuple(wanted)
    for choice in known:
        if value == choice:
            return choice
    names = [str(choice) for choice in known]
    raise InputError(f"{where}={shortened(str(value))}: expected one of {', '.join(names)}")


_EXPECTED = {
    bool: ("true or false", "true"),
    int: ("a whole number", "4"),
    float: ("a number", "1e-4"),
    str: ("text", "words"),
    Path: ("a path", "folder/name"),
}
