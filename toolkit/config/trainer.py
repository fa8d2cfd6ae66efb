"""Which arguments Lightning's Trainer takes, read from its source: importing it takes seconds."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

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
