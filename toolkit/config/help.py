"""What `toolkit COMMAND --help` prints: the groups with their choices, and every key."""

from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from toolkit.config.commands import Shape, composed
from toolkit.config.groups import compose_groups
from toolkit.config.keys import keys_of
from toolkit.config.lookup import choices
from toolkit.config.trainer import trainer_arguments


def describe(shape: Shape) -> str:
    """The groups and keys that a command takes, with their defaults."""
    parts = [describe_groups(shape), _keys(shape)]
    if "trainer" in shape.groups:
        parts.append(_trainer())
    return "\n\n".join(parts)


def describe_groups(shape: Shape) -> str:
    """The groups that a command takes, with their choices."""
    _, taken = compose_groups(shape.config, {})
    listed = [*shape.groups, *(["layout"] if "layout" in shape.own else [])]
    lines = ["Groups: group=name takes configs/group/name.yaml, from ./configs first"]
    for group in listed:
        default = taken.get(group)
        shown = [f"{name} (default)" if name == default else name for name in choices(group)]
        lines.append(f"  {group:10}{', '.join(shown)}")
    return "\n".join(lines)


def _keys(shape: Shape) -> str:
    content = composed(shape, {})
    lines = [f"Keys: key=value, with the defaults of model={content['model']['name']}"]
    for name, meaning in shape.typed_keys().items():
        key = None if name in shape.own else keys_of(shape.schema).get(name)
        default = _found(content, name, key.default if key else MISSING)
        written = name if default is MISSING else f"{name}={_shown(default)}"
        lines.append(f"  {written:48}{'' if len(written) < 48 else ' '}{meaning}".rstrip())
    return "\n".join(lines)


def _trainer() -> str:
    return "\n".join(
        ["Lightning's own, as trainer.devices=2 or trainer.precision=16-mixed:"]
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
