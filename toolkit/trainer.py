"""Lightning's Trainer from what a person typed: what it refuses is told in a line, at once."""

import math
import os
import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from lightning import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins import Precision

from toolkit.errors import InputError, one_line, shortened, within


class Work(StrEnum):
    """What a Trainer is made for."""

    TRAIN = "train"
    COMPOSE = "compose"


_WITHOUT_EFFECT = {
    "check_val_every_n_epoch", "enable_autolog_hparams", "enable_checkpointing", "inference_mode",
    "limit_test_batches", "limit_val_batches", "log_every_n_steps", "model_registry",
    "num_sanity_val_steps", "use_distributed_sampler", "val_check_interval",
}  # fmt: skip
_OF_TRAINING = {
    "accumulate_grad_batches", "gradient_clip_algorithm", "gradient_clip_val",
    "limit_train_batches", "max_time", "min_epochs", "min_steps", "overfit_batches",
    "reload_dataloaders_every_n_epochs",
}  # fmt: skip
_UNUSED = {
    Work.TRAIN: _WITHOUT_EFFECT | {"limit_predict_batches"},
    Work.COMPOSE: _WITHOUT_EFFECT | _OF_TRAINING | {"enable_progress_bar"},
}
"""Nothing is validated, logged or stored through Lightning, so these would change nothing."""

_OURS: Mapping[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "use_distributed_sampler": False,
    "inference_mode": False,
}

_LEAST = {
    "accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "fast_dev_run": 0,
    "gradient_clip_val": 0, "log_every_n_steps": 0, "min_epochs": 0, "min_steps": 0, "num_nodes": 1,
    "num_sanity_val_steps": -1, "reload_dataloaders_every_n_epochs": 0,
}  # fmt: skip
"""What Lightning takes below these ends a run later, in a division by zero and its like."""

_MOST = {"devices": 4096, "num_nodes": 65536}
_MOST_ON_CPU = max(64, os.cpu_count() or 1)

_CHOICES = {
    "strategy": (
        "auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true",
    ),
    "profiler": ("simple", "advanced", "pytorch", None),
}  # fmt: skip
"""Strategies with a process for each device, started from the same command: the others split or
copy the base. Profilers that do not need an XLA device."""


class BaseInThisType(Precision):
    """`bf16-true` and its like: the base is held in this type, what is trained in float32.

    Lightning's own would also halve noise, masks and the optimiser, and refuses frozen batches.
    """

    def __init__(self, precision: Any) -> None:
        self.precision = precision


@dataclass(frozen=True)
class CheckedTrainer:
    """What was typed for a Trainer, once Lightning has taken it.

    used: the arguments that have an effect here.
    precision: as Lightning calls what is used, which may be another than was typed.
    processes: how many work together, on all nodes.
    remarks: what is not used, or otherwise than asked.
    """

    used: Mapping[str, Any]
    precision: str
    processes: int
    remarks: tuple[str, ...]

    def make(self, **ours: Any) -> Trainer:
        """A Trainer with what was typed, and what the command sets itself (`ours`).

        Raises InputError, with Lightning's own reason, when the two do not go together.
        """
        used = self.used
        if self.precision.endswith("-true"):
            used = {**used, "precision": None, "plugins": [BaseInThisType(self.precision)]}
        return _construct(used, {**_OURS, **ours})

    def dtype_of_base(self, chosen: str | None) -> torch.dtype:
        """The type that the base's weights are held in: `chosen`, or what the precision says."""
        if chosen is not None:
            named: torch.dtype = getattr(torch, chosen)
            return named
        known = {"16": torch.float16, "bf16": torch.bfloat16, "64": torch.float64}
        return known.get(self.precision.split("-")[0], torch.float32)


def check_trainer(typed: Mapping[str, Any], work: Work) -> CheckedTrainer:
    """Whether Lightning takes all that was typed, also what has no effect on this work.

    Raises InputError, with Lightning's own reason, naming the argument.
    """
    for name, value in typed.items():
        with within(f"trainer.{name}"):
            _check_value(name, value, work)
    trainer = _construct(typed, _OURS)
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > _MOST_ON_CPU:
        raise InputError(
            f"trainer.devices={trainer.num_devices}: this machine has {os.cpu_count()} cores",
            "trainer.devices",
        )
    remarks = [f"trainer.{name} has no effect here" for name in typed if name in _UNUSED[work]]
    asked = str(typed.get("precision"))
    if asked in ("16", "16-mixed") and trainer.precision != "16-mixed":
        remarks.append(f"trainer.precision={asked}: not on a CPU, bf16-mixed is used")
    return CheckedTrainer(
        used={name: value for name, value in typed.items() if name not in _UNUSED[work]},
        precision=str(trainer.precision),
        processes=trainer.num_devices * trainer.num_nodes,
        remarks=tuple(remarks),
    )


def _construct(typed: Mapping[str, Any], ours: Mapping[str, Any]) -> Trainer:
    """A Trainer; whatever Lightning raises is about an argument, so it is told as one."""
    try:
        return Trainer(**{"enable_model_summary": False, **typed, **ours})
    except Exception as error:
        name = _culprit(typed, ours)
        where = f"trainer.{name}={shortened(str(typed[name]))}" if name else "trainer"
        path = f"trainer.{name}" if name else "trainer"
        raise InputError(f"{where}: {one_line(error)}", path) from error


def _culprit(typed: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """The argument without which Lightning is content; None when it is no single one."""
    for name in typed:
        others = {key: value for key, value in typed.items() if key != name}
        try:
            Trainer(**{**others, **ours})
        except Exception:  # another argument is to blame
            continue
        return name
    return None


def _check_value(name: str, value: Any, work: Work) -> None:
    wanted = get_type_hints(Trainer.__init__)[name]
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
