"""What `toolkit COMMAND --help` prints: the groups with their choices, and every key."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from toolkit.concept.stored import ED_LORA
from toolkit.config.commands import Shape, content_of
from toolkit.config.groups import compose_groups
from toolkit.config.keys import keys_of
from toolkit.config.lookup import choices
from toolkit.config.method import build_method
from toolkit.config.recipes import build_training
from toolkit.config.trainer import trainer_arguments
from toolkit.methods import LoraComposer, Preset, record_of


def describe(shape: Shape, typed: Mapping[str, str] | None = None) -> str:
    """The groups and keys that a command takes, with the values that they have.

    typed: what was typed beside `--help`, whose values then stand there.
    Raises InputError for what cannot be typed.
    """
    typed = typed or {}
    content = content_of(shape, typed)
    parts = [describe_groups(shape, typed), _keys(shape, typed, content)]
    if "trainer" in shape.groups:
        parts.append(_trainer(content.get("trainer") or {}))
    return "\n\n".join(parts)


def describe_groups(shape: Shape, typed: Mapping[str, str] | None = None) -> str:
    """The groups that a command takes, with their choices."""
    if not shape.groups:
        return "Groups: none"
    _, taken = compose_groups(shape.config, {})
    listed = [*shape.groups, *(["layout"] if "layout" in shape.own else []), *shape.before]
    lines = ["Groups: group=name takes configs/group/name.yaml, from ./configs first"]
    for group in listed:
        marks = {(typed or {}).get(group): " (chosen)", taken.get(group): " (default)"}
        shown = [f"{name}{marks.get(name, '')}" for name in choices(group)]
        lines.append(f"  {group:10}{', '.join(shown)}")
    return "\n".join(lines)


def _keys(shape: Shape, typed: Mapping[str, str], content: Mapping[str, Any]) -> str:
    keys = keys_of(shape.schema)
    own = _of_method(content) if "method" in shape.groups else {}
    learning = _of_recipe(content) if "recipe" in shape.groups else {}
    lines = [f"Keys: key=value, with the {'values' if typed else 'defaults'} of {_named(content)}"]
    for name, meaning in shape.typed_keys().items():
        key = None if name in shape.own else keys.get(name)
        default = _found(content, name, key.default if key else MISSING)
        if name.startswith("method."):
            if "method" in typed and name not in own:
                continue
            default = own.get(name, default)
        if name.startswith("training."):
            if name not in learning:
                continue
            default = learning[name]
        written = name if default is MISSING else f"{name}={_shown(default)}"
        said = f"{meaning}{_choices(key.annotation) if key else ''}"
        lines.append(f"  {written:48}{'' if len(written) < 48 else ' '}{said}".rstrip())
    return "\n".join(lines)


def _of_method(content: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the method that was chosen, with what its preset makes of them."""
    method = build_method(content["method"])
    settings = {**record_of(method), **asdict(method)}
    if isinstance(method, LoraComposer):
        settings["preset"] = content["method"].get("preset") or Preset.PUBLISHED
    return {f"method.{name}": value for name, value in settings.items()}


def _of_recipe(content: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the recipe that was chosen, with their values."""
    settings = build_training(content["recipe"], content["training"])
    return {f"training.{name}": value for name, value in asdict(settings).items()}


def _named(content: Mapping[str, Any]) -> str:
    if "name" not in content["model"]:
        return "the command"
    named = [f"model={content['model']['name']}"]
    if content.get("recipe") not in (None, ED_LORA):
        named.append(f"recipe={content['recipe']}")
    method = content.get("method") or {}
    if method.get("name") not in (None, "lora_composer"):
        named.append(f"method={method['name']}")
    return " ".join(named)


def _choices(annotation: Any) -> str:
    """The words that a value may be, for the end of its meaning."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return f" ({', '.join(annotation)})"
    if get_origin(annotation) is Literal:
        return f" ({', '.join(map(str, get_args(annotation)))})"
    if get_origin(annotation) in (Union, UnionType):
        return "".join(_choices(part) for part in get_args(annotation))
    return ""


def _trainer(arguments: Mapping[str, Any]) -> str:
    given = [f"trainer.{name}={_shown(value)}" for name, value in arguments.items()]
    said = f" (given: {' '.join(given)})" if given else ""
    return "\n".join(
        [f"Lightning's own, as trainer.devices=2 or trainer.precision=16-mixed{said}:"]
        + _wrapped(trainer_arguments())
    )


def _wrapped(words: tuple[str, ...], width: int = 96) -> list[str]:
    lines = ["  "]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("  ")
        lines[-1] += f"{word} "
    return [line.rstrip() for line in lines]


def _found(content: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value at a dotted name, or `default`."""
    found: Any = content
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return default
        found = found[part]
    return found


def _shown(value: Any) -> str:
    """A default as it would be typed."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value) if isinstance(value, str | int | Path) else f"{value:g}"
