"""What prior preservation is asked for, checked without torch."""

from pathlib import Path

from toolkit.config.schema import TrainConfig, TrainingConfig
from toolkit.errors import InputError
from toolkit.files import from_home
from toolkit.images.pictures import read_picture
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.folder_files import FolderTree

_MOST = 10_000


def wanted_prior(config: TrainConfig) -> str | None:
    """What `training.prior` says; None for nothing, and for a recipe without that key."""
    return config.training.prior if isinstance(config.training, TrainingConfig) else None


def wanted_number(config: TrainConfig) -> int | None:
    """How many pictures the base is to make of the class word; None where a folder is named."""
    typed = wanted_prior(config) or ""
    if not typed.isdecimal():
        return None
    if not 1 <= int(typed) <= _MOST:
        raise InputError(
            f"training.prior={typed}: from 1 to {_MOST} pictures of the class word, or a folder of "
            "them",
            "training.prior",
        )
    return int(typed)


def prior_images(config: TrainConfig) -> tuple[ConceptImage, ...]:
    """The images of the folder that `training.prior` names, each captioned with the class word.

    Raises InputError, which names the folder or the image, where there are none or one is damaged.
    """
    folder = from_home(Path(wanted_prior(config) or ""))
    if not folder.is_dir():
        raise InputError(
            f"training.prior={folder}: no such folder (a number makes pictures of the class word)",
            "training.prior",
        )
    paths = FolderTree(folder).files(folder).images
    if not paths:
        raise InputError(f"training.prior={folder}: holds no images", "training.prior")
    for path in paths:
        read_picture(path)
    return tuple(ConceptImage(path, config.concept.class_word) for path in paths)
