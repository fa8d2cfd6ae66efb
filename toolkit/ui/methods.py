"""The methods that a page can choose from: what each does, and its switches."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from toolkit.config.commands import COMPOSE, composed
from toolkit.config.keys import keys_of
from toolkit.config.lookup import choices, find_config
from toolkit.config.method import build_method
from toolkit.config.schema import ComposeConfig
from toolkit.errors import InputError
from toolkit.methods import record_of
from toolkit.text.files import read_text

_PARTS = ("with_", "without_", "no_")
_HIDDEN = ("sampler", "name")
FILES = ("painter",)
"""Settings that name files: those of the server's disk are not to be named over the network."""


@dataclass(frozen=True)
class Switch:
    """One setting of a method. kind: yes_no, number, choice or text."""

    name: str
    meaning: str
    value: Any
    kind: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offered:
    """A method. part: it is there to show what one part of another method does."""

    name: str
    says: str
    part: bool
    switches: tuple[Switch, ...]


def offered(model: str) -> list[Offered]:
    """Every method of `configs/method` that needs no file named, with its values on this base."""
    chosen = {"model": model} if model in choices("model") else {}
    found = []
    for name in choices("method"):
        try:
            settings = record_of(
                build_method(composed(COMPOSE, chosen | {"method": name})["method"])
            )
        except InputError:  # a person's own file: told when it is chosen
            continue
        if not settings.keys().isdisjoint(FILES):
            continue
        says = read_text(find_config("method", name)).partition("\n")[0]
        switches = tuple(
            _switch(key, value) for key, value in settings.items() if key not in _HIDDEN
        )
        found.append(Offered(name, says.lstrip("# "), name.startswith(_PARTS), switches))
    return found


def _switch(name: str, value: Any) -> Switch:
    key = keys_of(ComposeConfig)[f"method.{name}"]
    words = _words(key.annotation)
    if words:
        kind = "choice"
    elif isinstance(value, bool):
        kind = "yes_no"
    else:
        kind = "number" if isinstance(value, int | float) else "text"
    return Switch(name, key.meaning, value, kind, words)


def _words(annotation: Any) -> tuple[str, ...]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(one.value) for one in annotation)
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    return tuple(word for part in get_args(annotation) for word in _words(part))
