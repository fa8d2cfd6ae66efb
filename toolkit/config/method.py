"""A method from its config: which kind it is, which preset it starts from, and its own keys."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from toolkit.config.values import build
from toolkit.errors import InputError, within
from toolkit.methods import KINDS, PRESETS, LoraComposer, Method, Preset
from toolkit.text.dataclass_values import read_value
from toolkit.text.suggest import nearest

_KIND, _PRESET = "sampler", "preset"


def build_method(content: Mapping[str, Any]) -> Method:
    """The method that `content` describes; what is null takes its preset's value.

    Raises InputError for a kind or preset that there is not, and for a key of another method.
    """
    settings = {key: value for key, value in content.items() if value is not None}
    kind = settings.pop(_KIND, "lora_composer")
    if kind not in KINDS:
        raise InputError(
            f"method.{_KIND}={kind}: expected one of {', '.join(KINDS)}", f"method.{_KIND}"
        )
    schema = KINDS[kind]
    known = [field.name for field in fields(schema)]
    if schema is LoraComposer:
        with within(f"method.{_PRESET}"):
            preset = read_value(
                settings.pop(_PRESET, Preset.PUBLISHED), Preset, f"method.{_PRESET}"
            )
        settings = vars(PRESETS[preset]) | settings
    for key in settings:
        if key not in known:
            kinds = [name for name, made in KINDS.items() if _has(made, key)]
            raise InputError(
                _not_its_key(key, content.get("name") or kind, known, kinds), f"method.{key}"
            )
    return build(schema, settings, "method")


def named_by_switches(
    content: Mapping[str, Any], of_file: Mapping[str, Any], typed: Mapping[str, str]
) -> Method:
    """The method of `content`, called by its file's name and the typed keys that change something.

    So the pictures of `method.fill_loss=false` stand beside those of the whole method, and not in
    their place. of_file: what the method's file says.
    Raises InputError as `build_method` does.
    """
    method = build_method(content)
    changed = []
    for key, text in typed.items():
        section, _, name = key.rpartition(".")
        if section != "method" or name in method.not_in_name:
            continue
        if _matters(name, method, content, of_file):
            changed.append(f"+{name}={text}")
    return replace(method, name=method.name + "".join(sorted(changed)))


def _matters(
    name: str, method: Method, content: Mapping[str, Any], of_file: Mapping[str, Any]
) -> bool:
    """Whether the method would be another one with what its file says of this key."""
    try:
        return build_method({**content, name: of_file.get(name)}) != method
    except InputError:  # the other keys need it
        return True


def _has(kind: type[Method], key: str) -> bool:
    return key in {field.name for field in fields(kind)} or (
        kind is LoraComposer and key == _PRESET
    )


def _not_its_key(key: str, name: str, known: list[str], kinds: list[str]) -> str:
    if not kinds:
        return f"unknown key method.{key} ({nearest(key, known)})"
    own = [one for one in known if one != "name"]
    has = f"it has {', '.join(own)}" if own else "it has no keys"
    return f"method.{key}: method={name} has no such key ({has}); it is one of {', '.join(kinds)}"
