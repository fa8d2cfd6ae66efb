"""`toolkit layouts export`: layouts for other programs, with pixels and reference images.

What is written is described in docs/evaluation.md; `pictures.NAME=FOLDER` scores what is made.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.concept.stored import class_word_in, concept_path, images_in
from toolkit.config.lookup import choices, find_config, images_of
from toolkit.config.schema import LayoutsConfig
from toolkit.errors import InputError
from toolkit.files import check_writable, whole_file
from toolkit.layout.areas import bounds_of
from toolkit.layout.files import read_layouts, read_lines
from toolkit.layout.layout import Layout, is_file, name_of
from toolkit.layout.mapping import layout_to_mapping
from toolkit.layout.pixels import pixel_box
from toolkit.text.files import read_text
from toolkit.text.yaml_values import read_yaml
from toolkit.training.concept_folder import read_concept_folder

VERSION = 1


def export_layouts(config: LayoutsConfig) -> Path:
    """Write every layout to one JSON file; the file.

    Raises InputError, with nothing written, for a wrong layout, and for a concept without images or
    without a class word.
    """
    check_writable(config.target.parent)
    layouts = read_layouts(config.layouts)
    if config.layouts_file is not None:
        lines = read_lines(config.layouts_file)
        for wrong in lines.rejected:
            raise InputError(f"line {wrong.line} of the layouts file: {wrong.error}")
        layouts += lines.layouts.values()
    names = dict.fromkeys(name for layout in layouts for name in layout.concepts)
    concepts = {name: _concept(name, config) for name in names}
    content = {
        "version": VERSION,
        "pictures": "LAYOUT/SEED.png",
        "seeds": list(config.seeds),
        "concepts": concepts,
        "layouts": [_layout(layout, concepts) for layout in layouts],
    }
    with whole_file(config.target) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return config.target


def in_class_words(prompt: str, class_words: Mapping[str, str]) -> str:
    """`prompt` with a concept's class word where <name> stands, or <name1> <name2> written out."""
    for name, word in class_words.items():
        called = rf"<{re.escape(name)}\d*>"
        prompt = re.sub(rf"{called}(?:\s+{called})*", word.replace("\\", "\\\\"), prompt)
    return " ".join(prompt.split())


def _concept(name: str, config: LayoutsConfig) -> dict[str, Any]:
    """What other programs need to know of a concept; paths are absolute."""
    if is_file(name):
        raise InputError(f"{name} has no images to show: run toolkit import for it first")
    file = concept_path(config.concepts_folder, config.model.name, name).absolute()
    images = read_concept_folder(images_of(name, images_in(file)), name).images
    return {
        "class_word": _class_word(name, file),
        "file": str(file) if file.is_file() else None,
        "images": [
            {"image": str(image.path.absolute()), "mask": image.mask and str(image.mask.absolute())}
            for image in images
        ],
    }


def _class_word(name: str, file: Path) -> str:
    """As its file has it, or else its config."""
    word = class_word_in(file)
    if not word and name in choices("concept"):
        path = find_config("concept", name)
        content = read_yaml(read_text(path), str(path))
        word = str((content if isinstance(content, dict) else {}).get("class_word") or "")
    if not word:
        raise InputError(
            f"no class word of {name}: train it, or write `class_word: WORD` into "
            f"configs/concept/{name}.yaml"
        )
    return word


def _layout(layout: Layout, concepts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A layout as it is read here, with pixels and class words added."""
    content = layout_to_mapping(layout)
    words = {name_of(name): str(concepts[name]["class_word"]) for name in layout.concepts}
    content["prompt_in_class_words"] = in_class_words(layout.prompt, words)
    for written, region in zip(content["regions"], layout.regions, strict=True):
        written["prompt_in_class_words"] = in_class_words(region.prompt, words)
        written["negative_prompt"] = layout.negative_prompt_of(region)
        written["box_pixels"] = list(pixel_box(bounds_of(region), layout.width, layout.height))
    return content
