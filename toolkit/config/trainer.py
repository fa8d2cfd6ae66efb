"""Which arguments Lightning's Trainer takes, read from its source: importing it takes seconds."""

import ast
import builtins
import os
import sys
import typing
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from toolkit.config.trainer_values import Work, check_values
from toolkit.errors import InputError
from toolkit.text.suggest import nearest

RESERVED = {
    "callbacks": "the command sets it",
    "default_root_dir": "use output_dir=",
    "logger": "use logger=csv, wandb or none",
    "max_epochs": "use training.steps=",
    "max_steps": "use training.steps=",
}
"""Arguments that the commands set themselves, and what to type instead."""

_TRAINER = "lightning.pytorch.trainer.trainer"
_DEVICE_FILES = ("nvidia*", "dxg", "kfd", "nvhost-gpu", "nvgpu")
"""What Linux has in /dev for NVIDIA's GPUs, under Windows (WSL), for AMD's, and for Jetsons."""
_OF_SEVERAL = ("WORLD_SIZE", "LOCAL_RANK", "SLURM_NTASKS")


@cache
def trainer_arguments() -> tuple[str, ...]:
    """The names of the arguments that may be typed, in Lightning's order."""
    return tuple(trainer_types())


@cache
def trainer_types() -> dict[str, Any]:
    """The types of these arguments; Any for what the source does not tell."""
    tree = _source(_TRAINER)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == "Trainer":
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    given = [*part.args.args, *part.args.kwonlyargs]
                    names = _Names(tree)
                    return {
                        argument.arg: names.type_of(argument.annotation)
                        for argument in given
                        if argument.arg not in ("self", *RESERVED)
                    }
    raise RuntimeError(f"no Trainer in {_TRAINER}")


def check_early(arguments: Mapping[str, Any], work: Work) -> None:
    """Raise InputError for what is wrong with a Trainer's arguments and is known without torch."""
    check_values(arguments, work, trainer_types())
    check_gpu(arguments)


def check_trainer_argument(name: str) -> None:
    """Raise InputError, naming what is meant, for what Lightning's Trainer does not take."""
    if name in RESERVED:
        raise InputError(f"trainer.{name} cannot be given: {RESERVED[name]}", f"trainer.{name}")
    if name not in trainer_arguments():
        known = (f"trainer.{argument}" for argument in trainer_arguments())
        raise InputError(
            f"unknown key trainer.{name}: Lightning's Trainer has no such argument "
            f"({nearest(f'trainer.{name}', known)})",
            f"trainer.{name}",
        )


def check_gpu(arguments: Mapping[str, Any]) -> None:
    """Raise InputError where a GPU is asked for, and the machine has none for sure.

    Where there may be one, Lightning tells whether it can be used: importing it takes seconds.
    """
    asked = arguments.get("accelerator")
    if asked in ("gpu", "cuda") and not _may_have_gpu():
        raise InputError(
            f"trainer.accelerator={asked}: there is no GPU here that can be used; trainer=cpu, or "
            "trainer=auto for a GPU only where there is one",
            "trainer.accelerator",
        )


def is_plain(arguments: Mapping[str, Any]) -> bool:
    """Whether one process runs in float32 with these arguments, on whatever machine.

    What results then record of the trainer is known before Lightning is imported.
    """
    plain = {
        "accelerator": ("auto", "cpu"),
        "devices": (1,),
        "num_nodes": (1,),
        "strategy": ("auto",),
    }
    return (
        all(name in plain and value in plain[name] for name, value in arguments.items())
        and arguments.get("devices") == 1
        and not any(name in os.environ for name in _OF_SEVERAL)
    )


def _may_have_gpu() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return sys.platform != "linux" or any(
        file for pattern in _DEVICE_FILES for file in Path("/dev").glob(pattern)
    )


class _Names(dict[str, Any]):
    """The names in a file of Lightning's, as its annotations use them."""

    def __init__(self, tree: ast.Module) -> None:
        super().__init__(vars(builtins) | {name: getattr(typing, name) for name in typing.__all__})
        self.tree = tree

    def type_of(self, annotation: ast.expr | None) -> Any:
        """The type that is written there; Any where a part of it is not known."""
        assert annotation is not None
        return eval(compile(ast.Expression(annotation), "lightning", "eval"), {}, self)

    def __missing__(self, name: str) -> Any:
        """A choice of words that Lightning gave a name; else a class, of which nothing is typed."""
        for node in self.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                    self[name] = self.type_of(value)
                    return self[name]
                case ast.ImportFrom(module=str(module), names=names):
                    for alias in names:
                        own = (alias.asname or alias.name) == name
                        if own and name.startswith("_") and module.startswith("lightning."):
                            self[name] = _Names(_source(module))[alias.name]
                            return self[name]
        self[name] = Any if name.startswith("_") else type(name, (_Object,), {})
        return self[name]


class _Object:
    """A class of Lightning's, which no typed value is of."""

    def __class_getitem__(cls, item: object) -> type:
        return cls


def _source(module: str) -> ast.Module:
    """The source of one of Lightning's modules, read and not run."""
    spec = find_spec("lightning")
    assert spec is not None and spec.origin is not None
    place = Path(spec.origin).parent.joinpath(*module.split(".")[1:])
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))
