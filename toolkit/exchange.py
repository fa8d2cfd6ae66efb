"""`toolkit import` and `toolkit export`: from a checked config to a file.

What converts is imported after the checks: it needs torch, and they do not.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.backbones.source import check_local
from toolkit.concept.stored import CONES2, concept_path, recipe_in
from toolkit.config.schema import ExportConfig, ImportConfig
from toolkit.config.untrained import not_trained
from toolkit.errors import InputError
from toolkit.files import check_writable

if TYPE_CHECKING:
    from PIL import Image

    from toolkit.backbones import Base
    from toolkit.concept import Concept
    from toolkit.concept.formats.write import Written


def check_import(config: ImportConfig) -> Path:
    """Where the concept will be kept.

    Raises InputError when a concept of that name is there already, or the base is none.
    """
    path = concept_path(config.concepts_folder, config.model.name, config.name)
    if path.exists() and not config.overwrite:
        raise InputError(f"{path} is there already: take another name, or overwrite=true")
    if recipe_in(config.file) == CONES2:
        raise InputError(
            f"{config.file} is a Cones 2 concept: put it into {path.parent / CONES2}, or name the "
            "file in a layout"
        )
    check_writable(path.parent)
    check_local(config.model.path)
    return path


def check_export(config: ExportConfig) -> Path:
    """Where the concept is kept. Raises InputError when it is not there."""
    path = concept_path(config.concepts_folder, config.model.name, config.concept)
    check_writable(config.target.parent, "output_dir" if config.to is None else "to")
    other = concept_path(config.concepts_folder, config.model.name, config.concept, CONES2)
    if not path.is_file() and other.is_file():
        raise InputError(
            f"{config.concept} was trained by recipe=cones2 only, which other programs' formats "
            "cannot hold; train it without recipe=cones2 to export it"
        )
    if not path.is_file():
        raise not_trained([config.concept], config.model, config)
    return path


def import_concept(config: ImportConfig, base: "Base | None" = None) -> Path:
    """Read a file that others made, check it against the base, and keep it as a concept.

    base: the config's, where it is loaded already.
    Raises InputError for a file that cannot be read or does not fit, or when a concept of that name
    is there already.
    """
    from toolkit.backbones import load_base
    from toolkit.concept import save_concept
    from toolkit.concept.formats.read import read_foreign

    path, model = check_import(config), config.model
    base = base or load_base(
        model.path,
        model.name,
        guidance_downscale=model.guidance_downscale,
        guidance_layers=model.guidance_layers,
        prediction_type=model.prediction_type,
    )
    concept = read_foreign(
        config.file,
        config.name,
        base,
        class_word=config.class_word,
        trigger=config.trigger,
        embedding=config.embedding,
        largest_rank=config.rank,
    )
    save_concept(concept, path)
    return path


def export_concept(config: ExportConfig) -> "Written":
    """Write a trained concept for other programs. Raises InputError when it is not there."""
    from toolkit.concept import load_concept
    from toolkit.concept.formats.described import describe_files
    from toolkit.concept.formats.write import write_foreign

    concept = load_concept(check_export(config))
    written = write_foreign(concept, config.format, config.target)
    describe_files(written.files, concept, _picture(config, concept))
    return written


def _picture(config: ExportConfig, concept: "Concept") -> "Image.Image | None":
    """The concept as its training drew it last; None where no training did."""
    from PIL import Image

    from toolkit.training.grid import first_picture

    folder = config.output_dir / "runs" / "train" / config.model.name / config.concept / "samples"
    grids = sorted(folder.glob("step_*.png"))
    settings = concept.training
    if not grids or not settings.get("width", "").isdecimal():
        return None
    with Image.open(grids[-1]) as grid:
        return first_picture(grid, int(settings["width"]), int(settings["height"]))
