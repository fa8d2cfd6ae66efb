"""Pictures that another program made of the same layouts: found, and checked."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.batch.journal import Item
from toolkit.config.schema import EvaluateConfig, OtherPictures
from toolkit.errors import InputError
from toolkit.images.files import open_image
from toolkit.layout.layout import Layout

log = logging.getLogger(__name__)


def check_pictures(config: EvaluateConfig, layouts: Sequence[Layout]) -> None:
    """Raise InputError for a picture that is missing, broken, or of another size than its layout's.

    Those that are missing are only counted on screen where the config says to skip them, as long as
    one is left.
    """
    for pictures in config.pictures:
        key = f"pictures.{pictures.name}"
        if not pictures.folder.is_dir():
            raise InputError(f"{key}={pictures.folder}: there is no such folder", key)
        found = pictures_of(pictures, layouts, config.seeds)
        _check_missing(config, pictures, found, layouts)
        for item, path in found.items():
            width, height = open_image(path).upright_size
            if (width, height) != (item.layout.width, item.layout.height):
                raise InputError(
                    f"{key}: {path} is {width} x {height} pixels, and layout {item.layout.name} is "
                    f"{item.layout.width} x {item.layout.height}: make it in that size",
                    key,
                )


def pictures_of(
    pictures: OtherPictures, layouts: Sequence[Layout], seeds: Sequence[int]
) -> Mapping[Item, Path]:
    """The files that are there, FOLDER/LAYOUT/SEED.png, of these layouts and seeds."""
    items = [Item(layout, seed) for layout in layouts for seed in seeds]
    paths = {item: item.path(pictures.folder, ".png") for item in items}
    return {item: path for item, path in paths.items() if path.is_file()}


def _check_missing(
    config: EvaluateConfig,
    pictures: OtherPictures,
    found: Mapping[Item, Path],
    layouts: Sequence[Layout],
) -> None:
    key = f"pictures.{pictures.name}"
    items = [Item(layout, seed) for layout in layouts for seed in config.seeds]
    missing = [item for item in items if item not in found]
    if not missing:
        return
    said = (
        f"{key}: {len(missing)} of {len(items)} pictures are missing in {pictures.folder}, the "
        f"first is {missing[0].path(Path(), '.png')}"
    )
    if not found:
        raise InputError(f"{said}: they are to lie there as LAYOUT/SEED.png", key)
    if not config.skip_missing:
        raise InputError(f"{said}: make them, or score the others with skip_missing=true", key)
    log.warning("%s: the other %d are scored", said, len(found))
