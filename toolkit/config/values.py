"""Text that a person typed, and values that a config file holds, checked against a schema."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml

from toolkit.config.schema import TrainerConfig
from toolkit.config.trainer import check_trainer_argument
from toolkit.errors import within
from toolkit.text.dataclass_values import is_choice, read_dataclass, read_value, without_none
from toolkit.text.yaml_values import read_scalar

Schema = TypeVar("Schema")


def parse(text: str, annotation: Any, where: str) -> Any:
    """What `text` means where `annotation` is expected, at the key `where`.

    Text and paths are taken verbatim, lists of text too unless they are written [one, two]; all
    else is YAML. `null` is None where None is allowed.
    """
    with within(where):
        return read_value(_meant(text, annotation), annotation, where, text)


def build(schema: type[Schema], content: Any, where: str = "") -> Schema:
    """The dataclass `schema` from what YAML held, every key and value checked."""
    if isinstance(content, Mapping) and isinstance(content.get("trainer"), Mapping):
        for name in content["trainer"]:
            check_trainer_argument(str(name))
        content = {**content, "trainer": TrainerConfig(dict(content["trainer"]))}
    with within(where):
        return read_dataclass(schema, content, where)


def _meant(text: str, annotation: Any) -> Any:
    wanted = without_none(annotation)
    if text == "null" and wanted is not annotation:
        return None
    if wanted in (str, Path) or is_choice(wanted):
        return text
    if get_origin(wanted) is tuple and get_args(wanted)[0] is str:
        return _texts(text) if text.startswith("[") and text.endswith("]") else [text]
    return read_scalar(text)


def _texts(text: str) -> Any:
    """`[one, 7]` as a list in which everything is text."""
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
