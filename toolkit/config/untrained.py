"""What a person is told to type when concepts are not trained, or not fused, on a base."""

import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from toolkit.concept.stored import ED_LORA, concept_path
from toolkit.config.lookup import base_name, choices, is_packaged
from toolkit.config.schema import Folders, ModelConfig
from toolkit.errors import InputError


def not_trained(
    concepts: Sequence[str], model: ModelConfig, folders: Folders, recipe: str = ED_LORA
) -> InputError:
    """The error of concepts that no file is kept of: where was looked, and what trains them.

    Concepts that are kept there and are called nearly the same are named.
    """
    where = concept_path(folders.concepts_folder, model.name, "", recipe).parent
    kept = [path.stem for path in where.glob("*.safetensors")] if where.is_dir() else []
    alike = {name: None for concept in concepts for name in get_close_matches(concept, kept)}
    there = f", where {' and '.join(alike)} {'is' if len(alike) == 1 else 'are'}" if alike else ""
    return InputError(
        f"not trained yet: {', '.join(concepts)} (looked in {where}{there}); run: "
        + training_commands(concepts, model, folders, recipe)
    )


def training_commands(
    concepts: Sequence[str], model: ModelConfig, folders: Folders, recipe: str = ED_LORA
) -> str:
    """What trains concepts on this base, in these folders.

    One command for all that have a config, and one for each other, whose images have to be said.
    """
    known = [concept for concept in concepts if concept in choices("concept")]
    what = [[f"concept={','.join(known)}"]] if known else []
    what += [
        [f"concept={concept}", "concept.images=FOLDER", "concept.class_word=WORD"]
        for concept in concepts
        if concept not in known
    ]
    how = [] if recipe == ED_LORA else [f"recipe={recipe}"]
    return "; ".join(_typed("train", [*how, *words], model, folders) for words in what)


def fusing_command(concepts: Sequence[str], model: ModelConfig, folders: Folders) -> str:
    """What fuses concepts on this base, in these folders."""
    return _typed("fuse", [f"concepts={','.join(concepts)}"], model, folders)


def _typed(command: str, words: Sequence[str], model: ModelConfig, folders: Folders) -> str:
    words = [*words, *_model_arguments(model.name, model.path)]
    if folders.output_dir != Path("outputs"):
        words.append(f"output_dir={folders.output_dir}")
    if folders.concepts_dir is not None:
        words.append(f"concepts_dir={folders.concepts_dir}")
    return f"toolkit {command} {' '.join(map(shlex.quote, words))}"


def _model_arguments(name: str, path: str) -> list[str]:
    if is_packaged(path):
        return [] if name == "mini" else [f"model={name}"]
    if name in choices("model") and base_name(path) != name:
        return [f"model={name}"]
    return [f"model.path={path}", *([] if base_name(path) == name else [f"model.name={name}"])]
