"""From what layouts call their concepts to the files that hold them."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.concept.stored import CONES2, ED_LORA, concept_path, recipe_in
from toolkit.config.schema import Folders, ModelConfig
from toolkit.config.untrained import fusing_command, not_trained
from toolkit.errors import InputError
from toolkit.layout.layout import Layout, is_file, name_of
from toolkit.methods import Method

if TYPE_CHECKING:
    from toolkit.backbones import Base
    from toolkit.concept import Concept


def concept_files(
    layouts: Sequence[Layout], folders: Folders, model: ModelConfig, method: Method | None = None
) -> dict[str, Path]:
    """The concept file of every concept in `layouts`, and of what `method` needs besides.

    The file of a fusion that composing makes by itself need not be there yet.
    Raises InputError naming the command that trains what is missing, a file that is not there, or
    one of another recipe than the method draws.
    """
    recipe = ED_LORA if method is None else method.recipe
    names = dict.fromkeys(name for layout in layouts for name in layout.concepts)
    paths = {
        name: Path(name)
        if is_file(name)
        else concept_path(folders.concepts_folder, model.name, name, recipe)
        for name in names
    }
    missing = [name for name, path in paths.items() if not path.is_file()]
    for name in filter(is_file, missing):
        raise InputError(f"no file {name}, which a layout names as its concept")
    if missing:
        raise not_trained(missing, model, folders, recipe)
    for name in filter(is_file, paths):
        found = recipe_in(paths[name])
        if found != recipe and CONES2 in (found, recipe):
            raise InputError(
                f"{name}: this method draws concepts of recipe={recipe}, and this file is "
                + (f"of recipe={found}" if found else "none of them, or damaged")
            )
    return paths | _fusions(layouts, folders, model, method)


def _fusions(
    layouts: Sequence[Layout], folders: Folders, model: ModelConfig, method: Method | None
) -> dict[str, Path]:
    """Files of what a method needs besides the layouts' concepts; each is a fusion of those."""
    paths: dict[str, Path] = {}
    for layout in layouts if method is not None else ():
        assert method is not None
        for name in method.also_needs(layout):
            paths[name] = concept_path(folders.concepts_folder, model.name, name)
            if not paths[name].is_file():
                _check_can_be_made(name, layout, folders, model)
    return paths


def _check_can_be_made(name: str, layout: Layout, folders: Folders, model: ModelConfig) -> None:
    """Raise InputError for a fusion that composing cannot make by itself."""
    for file in filter(is_file, layout.concepts):
        raise InputError(f"a fusion is made of concepts by name: run toolkit import {file} first")
    if name != "_".join(layout.concepts):
        typed = fusing_command(layout.concepts, model, folders)
        raise InputError(f"not fused yet: {name}; run: {typed} name={name}")


def read_concept(concept: str, path: Path, base: "Base") -> "Concept":
    """What a layout calls `concept`: trained here, or a file of any format that is known."""
    from toolkit.concept.file import load_concept  # torch, which looking for files does not need
    from toolkit.concept.formats.read import read_foreign

    if not is_file(concept):
        return load_concept(path)
    try:
        return read_foreign(path, name_of(concept), base)
    except InputError as error:
        if "trigger=" not in str(error):
            raise  # only that key is one of `toolkit import`, and not of a layout
        name = name_of(concept)
        typed = shlex.quote(str(path))
        raise InputError(
            f"{path} holds no embeddings, and a layout cannot say which words call it: run toolkit "
            f"import {typed} concept={name} trigger='...' (or embedding=FILE) and write concept: "
            f"{name}"
        ) from error
