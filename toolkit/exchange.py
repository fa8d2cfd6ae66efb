"""`toolkit import` and `toolkit export`: from a checked config to a file."""

from pathlib import Path

from toolkit.backbones import load_base
from toolkit.concept.file import concept_path, load_concept, save_concept
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.formats.write import Written, write_foreign
from toolkit.config.schema import ExportConfig, ImportConfig
from toolkit.errors import InputError
from toolkit.files import check_writable


def import_concept(config: ImportConfig) -> Path:
    """Read a file that others made, check it against the base, and keep it as a concept.

    Raises InputError for a file that cannot be read or does not fit, or when a concept of that name
    is there already.
    """
    model = config.model
    path = concept_path(config.output_dir, model.name, config.name)
    if path.exists() and not config.overwrite:
        raise InputError(f"{path} is there already: take another name, or overwrite=true")
    check_writable(path.parent)
    base = load_base(model.path, model.name, guidance_downscale=model.guidance_downscale)
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


def export_concept(config: ExportConfig) -> Written:
    """Write a trained concept for other programs. Raises InputError when it is not there."""
    path = concept_path(config.output_dir, config.model.name, config.concept)
    check_writable(config.target.parent, "output_dir" if config.to is None else "to")
    return write_foreign(load_concept(path), config.format, config.target)
