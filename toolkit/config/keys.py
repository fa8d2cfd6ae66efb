"""The keys that a schema has, with their types, defaults and meanings."""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from toolkit.config.learning import LearningConfig
from toolkit.config.recipes import RECIPES
from toolkit.config.schema import TrainerConfig
from toolkit.methods import KINDS, Method, Preset
from toolkit.text.dataclass_values import default_of


@dataclass(frozen=True)
class Key:
    """One `key=value` that may be typed."""

    name: str
    annotation: Any
    default: Any
    """MISSING when it has none."""
    meaning: str


@cache
def keys_of(schema: type) -> dict[str, Key]:
    """All keys of a schema and of the schemas in it, dotted; the trainer's are Lightning's."""
    return {key.name: key for key in _walk(schema, "")}


def _walk(schema: type, prefix: str) -> Iterator[Key]:
    types = get_type_hints(schema)
    meanings = _meanings(schema)
    for field in fields(schema):
        name, annotation = prefix + field.name, types[field.name]
        if annotation is TrainerConfig:
            continue
        if annotation is Method:
            yield from _of_methods(f"{name}.")
            continue
        if annotation is LearningConfig:
            yield from _of_all(RECIPES.values(), f"{name}.")
            continue
        if is_dataclass(annotation) and isinstance(annotation, type):
            yield from _walk(annotation, f"{name}.")
        else:
            yield Key(name, annotation, default_of(field), meanings.get(field.name, ""))


def _of_methods(prefix: str) -> Iterator[Key]:
    """The keys of every kind of method; which kind has which is checked when one is made."""
    yield Key(f"{prefix}sampler", str, "lora_composer", f"Who draws: {', '.join(KINDS)}")
    yield Key(f"{prefix}preset", Preset, Preset.PUBLISHED, "Where LoRA-Composer's keys start from")
    yield from _of_all(KINDS.values(), prefix)


def _of_all(schemas: Iterable[type], prefix: str) -> Iterator[Key]:
    """The keys that any of some schemas has, each once."""
    seen = set()
    for schema in schemas:
        for key in _walk(schema, prefix):
            if key.name not in seen:
                seen.add(key.name)
                yield key


def _meanings(schema: type) -> dict[str, str]:
    """The string under each field in the source of the schema and of what it inherits from."""
    inherited = [_meanings(above) for above in schema.__bases__ if is_dataclass(above)]
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(body, ast.ClassDef)
    own = {
        line.target.id: " ".join(below.value.value.split())
        for line, below in zip(body.body, body.body[1:], strict=False)
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
    return {name: text for known in (*inherited, own) for name, text in known.items()}
