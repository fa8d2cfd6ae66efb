"""Which arguments Lightning's Trainer takes, read from its source: importing it takes seconds."""

import ast
import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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

_DEVICE_FILES = ("nvidia*", "dxg", "kfd", "nvhost-gpu", "nvgpu")
"""What Linux has in /dev for NVIDIA's GPUs, under Windows (WSL), for AMD's, and for Jetsons."""
_OF_SEVERAL = ("WORLD_SIZE", "LOCAL_RANK", "SLURM_NTASKS")


@cache
def trainer_arguments() -> tuple[str, ...]:
    """The names of the arguments that may be typed, in Lightning's order."""
    spec = find_spec("lightning")
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "pytorch" / "trainer" / "trainer.py"
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == "Trainer":
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    names = [argument.arg for argument in (*part.args.args, *part.args.kwonlyargs)]
                    return tuple(name for name in names if name not in ("self", *RESERVED))
    raise RuntimeError(f"no Trainer in {source}")


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
