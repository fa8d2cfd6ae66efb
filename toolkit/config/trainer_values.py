"""Whether the values that were typed for Lightning's Trainer are of the kind that it takes."""

import math
import types
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin

from toolkit.errors import InputError, shortened, within


class Work(StrEnum):
    """What a Trainer is made for."""

    TRAIN = "train"
    COMPOSE = "compose"


_LEAST = {
    "accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "fast_dev_run": 0,
    "gradient_clip_val": 0, "log_every_n_steps": 0, "min_epochs": 0, "min_steps": 0, "num_nodes": 1,
    "num_sanity_val_steps": -1, "reload_dataloaders_every_n_epochs": 0,
}  # fmt: skip
"""What Lightning takes below these ends a run later, in a division by zero and its like."""

_MOST = {"devices": 4096, "num_nodes": 65536}
_CHOICES = {
    "strategy": (
        "auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true",
    ),
    "profiler": ("simple", "advanced", "pytorch", None),
}  # fmt: skip
"""Strategies with a process for each device, started from the same command: the others split or
copy the base. Profilers that do not need an XLA device."""


def check_values(typed: Mapping[str, Any], work: Work, wanted: Mapping[str, Any]) -> None:
    """Raise InputError, naming the argument, for a value of another type, or out of range.

    wanted: the types of the Trainer's arguments, where Any is told by Lightning later.
    """
    for name, value in typed.items():
        with within(f"trainer.{name}"):
            _check_value(name, value, work, wanted[name])


def _check_value(name: str, value: Any, work: Work, wanted: Any) -> None:
    key = f"trainer.{name}={shortened(str(value))}"
    if not _is_of(value, wanted):
        words = " or ".join(_words(wanted))
        raise InputError(
            f"{key}: expected {words}" if words else f"{key}: it takes objects, not words"
        )
    choices = _CHOICES.get(name, (value,))
    if value not in choices:
        raise InputError(f"{key}: expected one of {', '.join(map(str, filter(None, choices)))}")
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, int | float):
        if number < _LEAST.get(name, -math.inf):
            raise InputError(f"{key}: must be at least {_LEAST[name]}")
        if number > _MOST.get(name, math.inf):
            raise InputError(f"{key}: must be at most {_MOST[name]}")
    shares = ("limit_train_batches", "overfit_batches")
    if work is Work.TRAIN and name in shares and isinstance(value, float) and value % 1:
        raise InputError(f"{key}: give a whole number of batches; training has no last one")
    if work is Work.TRAIN and name == "barebones" and value:
        raise InputError(f"{key}: it switches off the measurements that training shows")
    if work is Work.COMPOSE and name == "inference_mode" and value:
        raise InputError(f"{key}: composing needs gradients of the latents")


def _is_of(value: Any, wanted: Any) -> bool:
    """Whether a value that was typed is of the type that an annotation wants."""
    kind, parts = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if kind in (Union, types.UnionType):
        return any(_is_of(value, part) for part in parts)
    if kind is Literal:
        return any(type(value) is type(choice) and value == choice for choice in parts)
    if kind is list:
        return isinstance(value, list) and all(_is_of(item, parts[0]) for item in value)
    if kind is dict:
        return isinstance(value, dict) and all(_is_of(item, parts[1]) for item in value.values())
    if wanted is float:
        return type(value) is float and math.isfinite(value)
    return type(value) is wanted


def _words(wanted: Any) -> list[str]:
    """What an annotation wants, in words; nothing for objects."""
    kind, parts = get_origin(wanted), get_args(wanted)
    if kind in (Union, types.UnionType):
        return list(dict.fromkeys(word for part in parts for word in _words(part)))
    if kind is Literal:
        return [str(choice) for choice in parts]
    if kind is list:
        return [f"a list of {word}s" for word in _words(parts[0])]
    if kind is dict:
        return ["{hours: 1, minutes: 30}"]
    known = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return [known[wanted]] if wanted in known else []
