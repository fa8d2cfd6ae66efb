"""A picture of each concept, for methods that are shown one."""

from collections.abc import Callable
from pathlib import Path

from toolkit.config.lookup import images_of
from toolkit.errors import InputError
from toolkit.layout.layout import Layout, is_file
from toolkit.methods import Method
from toolkit.training.concept_folder import read_concept_folder


def exemplars_of(
    layout: Layout, method: Method, trained_from: Callable[[str], str]
) -> dict[str, Path]:
    """The first image of each region's concept, by its name; none where the method is shown none.

    trained_from: the folder that a concept remembers, as `images_of` takes it.
    Raises InputError where a concept has no images.
    """
    if not method.finishes:
        return {}
    names = dict.fromkeys(region.concept for region in layout.regions)
    for name in filter(is_file, names):
        raise InputError(
            f"{name} has no images to show to method={method.name}: run toolkit import for it "
            f"first, and put its images into datasets/NAME"
        )
    folders = {name: images_of(name, trained_from(name)) for name in names}
    return {
        name: read_concept_folder(folder, name).images[0].path for name, folder in folders.items()
    }
