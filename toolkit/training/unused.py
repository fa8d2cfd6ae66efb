"""What lies in a concept's folder and is not used, counted and named."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from toolkit.images.files import frames_of
from toolkit.text.wording import counted, listed
from toolkit.training.folder_files import (
    CAPTIONS,
    FolderFiles,
    FolderTree,
    is_condition,
    is_mask_folder,
    is_unread_picture,
    kohya_folder,
)
from toolkit.training.metadata import METADATA

_Reason = tuple[str, str]
"""What a file is, and why it is not used."""

_CAPTIONS = ("caption", "no image of that name, or it has another caption")
_MASKS = ("mask", "no image of that name, or it has another mask")
_CONDITIONS = ("image", "for OneTrainer to condition on")
_UNREAD = ("file", "a format that is not read; convert to PNG or JPEG")
_METADATA = ("file", "only the first of these is read: " + ", ".join(METADATA))
_LINKS = ("link", "what it leads to is not there")
_OTHERS = ("file", "neither image, caption nor mask")


def unused_content(tree: FolderTree, used: Collection[Path]) -> list[str]:
    """A line for each reason why files are not used, with their number and names."""
    read = {path.parent for path in used} | {tree.root}
    groups: dict[_Reason, list[str]] = {}
    for here in tree.walk():
        masks = is_mask_folder(here.folder) and here.folder.parent in read
        for path in here.files:
            if path not in used:
                known = masks or here.folder in read
                reason = _reason(path, here, masks, tree) if known else _below(path, here, tree)
                groups.setdefault(reason, []).append(str(path.relative_to(tree.root)))
    return [
        " ".join(f"not used: {counted(len(names), what)} ({listed(names)}): {why}".split())
        for (what, why), names in groups.items()
    ]


def several_frames(images: Sequence[Path]) -> list[str]:
    """A line about the files that hold more than one picture, if there are any."""
    names = [path.name for path in images if frames_of(path) > 1]
    if not names:
        return []
    files = counted(len(names), "file")
    return [f"not used: all pictures but the first of {files} that hold several ({listed(names)})"]


def elsewhere(tree: FolderTree) -> str:
    """What a folder without images holds instead, and where images do lie, for a message."""
    images = {
        here.folder: len(here.images)
        for here in tree.walk()
        if here.images and not is_mask_folder(here.folder)
    }
    if images:
        places = [
            f"{folder.relative_to(tree.root)}/ ({number})" for folder, number in images.items()
        ]
        first = next(iter(images))
        meant = first.parent if kohya_folder(first) else first
        return (
            f" itself, but there are some in {listed(places)}: set "
            f"concept.images={shlex.quote(str(meant))}"
        )
    files = [path for here in tree.walk() for path in here.files]
    unread = [path.name for path in files if is_unread_picture(path)]
    if unread:
        what, why = _UNREAD
        return f", only {counted(len(unread), what)} ({listed(unread)}): {why}"
    names = [str(path.relative_to(tree.root)) for path in files]
    return f", only: {listed(names)}" if names else ": it is empty"


def _reason(path: Path, here: FolderFiles, in_masks: bool, tree: FolderTree) -> _Reason:
    """Why a file in a folder that is read is not used."""
    if not path.exists():
        return _LINKS
    if is_unread_picture(path):
        return _UNREAD
    if here.is_picture(path):
        if is_condition(path):
            return _CONDITIONS
        if in_masks or not here.is_image(path):
            return _MASKS
        return _below(path, here, tree)
    if path.suffix.lower() in CAPTIONS and not in_masks:
        return _CAPTIONS
    return _METADATA if path.name in METADATA else _OTHERS


def _below(path: Path, here: FolderFiles, tree: FolderTree) -> _Reason:
    """Why a file in a folder that is not read is not used."""
    if not path.exists():
        return _LINKS
    kind = "image" if here.is_picture(path) else "file"
    place = here.folder.relative_to(tree.root)
    if any(map(is_mask_folder, (place, *place.parents))):
        return kind, f"{place}/ is not read; masks lie in masks/, or in masks/ beside their images"
    inner = ", and those lie in the folder itself" if kohya_folder(here.folder) else ""
    return kind, f"{place}/ is not read; of sub-folders only those named as 10_dog are{inner}"
