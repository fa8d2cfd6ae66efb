"""Where concepts are kept, and what a concept file says of itself: told without torch."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

FORMAT = "toolkit-concept"
FORMAT_VERSION = "1"
RECIPE = "recipe"
"""In a concept file's metadata: how it was trained, where that is not ED_LORA."""
ED_LORA, CONES2 = "ed_lora", "cones2"
FUSION = "fusion"
"""In a concept file's training settings: of what it is fused, where it is no single concept."""
RESIDUAL = "text_residual"
"""The tensor of a concept file that Cones 2 learns."""


def concept_path(concepts: Path, model: str, name: str, recipe: str = ED_LORA) -> Path:
    """Where the concept `name` of the base `model` is kept in the folder of concepts.

    Each recipe has a folder of its own.
    """
    folder = concepts / model
    return (folder if recipe == ED_LORA else folder / recipe) / f"{name}.safetensors"


def recipe_in(path: Path) -> str | None:
    """By which recipe a concept file was trained; None where no whole concept file is."""
    metadata = _metadata(path)
    return None if metadata is None else metadata.get(RECIPE, ED_LORA)


def training_of(path: Path) -> Mapping[str, str] | None:
    """The settings that a concept was trained with; None where no whole concept file is."""
    metadata = _metadata(path)
    try:
        return None if metadata is None else dict(json.loads(metadata["training"]))
    except (ValueError, TypeError, LookupError):
        return None


def name_in(path: Path) -> str:
    """What a concept file calls its concept; empty where no whole concept file is."""
    return (_metadata(path) or {}).get("name", "")


def images_in(path: Path) -> str:
    """The folder of images that a concept was trained from; empty where its file does not say."""
    return (_metadata(path) or {}).get("images", "")


def class_word_in(path: Path) -> str:
    """The class word of a concept file; empty where no whole concept file is."""
    return (_metadata(path) or {}).get("class_word", "")


def _metadata(path: Path) -> dict[str, str] | None:
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            finite = all(
                np.isfinite(file.get_tensor(name)).all()
                for name in file.keys()  # noqa: SIM118
            )
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, LookupError):
        return None
    known = (metadata.get("format"), metadata.get("format_version")) == (FORMAT, FORMAT_VERSION)
    return metadata if known and finite else None
