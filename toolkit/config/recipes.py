"""The recipes of stage one, and reading the keys of one."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from toolkit.config.cones2 import Cones2Config
from toolkit.config.learning import LearningConfig
from toolkit.config.training import TrainingConfig
from toolkit.errors import InputError, within
from toolkit.text.dataclass_values import read_dataclass
from toolkit.text.suggest import nearest

RECIPES: Mapping[str, type[LearningConfig]] = {
    one.recipe: one for one in (TrainingConfig, Cones2Config)
}
"""By the word that `kind:` has in a recipe's file."""


def build_training(recipe: str, content: Mapping[str, Any]) -> LearningConfig:
    """What `content` says of a recipe's keys. Raises InputError for one that it has not."""
    schema = RECIPES[recipe]
    known = [field.name for field in fields(schema)]
    for key in content:
        if key in known:
            continue
        others = [name for name, other in RECIPES.items() if _has(other, key)]
        if not others:
            raise InputError(
                f"unknown key training.{key} ({nearest(key, known)})", f"training.{key}"
            )
        raise InputError(
            f"training.{key}: recipe={recipe} has no such key (it has {', '.join(known)}); it is "
            f"one of recipe={', '.join(others)}",
            f"training.{key}",
        )
    with within("training"):
        return read_dataclass(schema, content, "training")


def _has(schema: type[LearningConfig], key: str) -> bool:
    return key in {field.name for field in fields(schema)}
