"""A folder of images of one concept, as people lay it out: captions and masks beside the images."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.errors import InputError
from toolkit.images.pictures import read_mask, read_picture, turn_is_unsure
from toolkit.text.files import read_text
from toolkit.text.wording import counted, listed
from toolkit.training.folder_files import FolderTree, kohya_folder
from toolkit.training.metadata import Metadata, read_metadata
from toolkit.training.unused import elsewhere, several_frames, unused_content

_MOST_REPEATS = 100_000
_RENAME = "rename it, as 1_dog, to have each seen once a round"


@dataclass(frozen=True)
class ConceptImage:
    """One image of a concept.

    caption: names the concept as <name>.
    mask: white where the subject is; None when there is none.
    repeats: how often it is seen in each round through the folder.
    lines: where the caption has several, each as a caption of its own; else none.
    captioned: whether the caption came with the image; caption_file: the file it stood in alone.
    """

    path: Path
    caption: str
    mask: Path | None = None
    repeats: int = 1
    captioned: bool = False
    lines: tuple[str, ...] = ()
    caption_file: Path | None = None


@dataclass(frozen=True)
class ConceptFolder:
    """The images of a concept, and what a person should know of its folder before training.

    inventory: what there is, counted in one line.
    warnings: what of the folder's content is not used, or is changed, and why.
    """

    images: tuple[ConceptImage, ...]
    inventory: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """An image and what the place it was found in says about it.

    text: its caption from metadata.
    words: a kohya folder's words, which its captions use as the concept's name.
    """

    path: Path
    text: str | None = None
    words: str | None = None
    repeats: int = 1


def read_concept_folder(folder: Path, name: str, skip_unreadable: bool = False) -> ConceptFolder:
    """All images of `folder`, checked to be readable, in the order of their names.

    Reads plain folders, kohya's `10_sks dog` sub-folders (10 repeats; the words stand for the
    concept), and metadata of Hugging Face and kohya. A caption is the metadata's text, or that of
    `STEM.txt` or `STEM.caption`; without one it is `<name>`. A mask is `masks/STEM` in any image
    format, or `STEM-masklabel` beside the image.

    Raises InputError when the folder is missing or holds no images, or names every image and mask
    that cannot be read; with `skip_unreadable` these are left out with a warning.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder} with images of {name}: set concept.images=FOLDER")
    tree = FolderTree(folder)
    found, metadata = _find(tree)
    if not found:
        raise InputError(f"{folder} holds no images of {name}{elsewhere(tree)}")
    silent = [entry for entry in found if not entry.repeats]
    if len(silent) == len(found):
        place = silent[0].path.parent
        raise InputError(f"{place} asks for 0 repeats of every image of {name}: {_RENAME}")
    images = [_image(entry, tree, name) for entry in found if entry.repeats]
    readable, problems = _readable(images, skip_unreadable)
    warnings = [f"left out: {problem}" for problem in problems]
    warnings += _of_silent(silent, folder)
    warnings += [f"not used: {what}" for one in metadata for what in one.unused]
    warnings += unused_content(tree, _used(images, silent, metadata, tree))
    warnings += several_frames([image.path for image in readable])
    warnings += _of_turned_masks(readable)
    warnings += _of_captions(readable, folder, name)
    return ConceptFolder(
        images=tuple(_naming(image, name) for image in readable),
        inventory=_inventory(name, readable),
        warnings=tuple(warnings),
    )


def names_concept(caption: str, name: str) -> bool:
    """Whether the caption says <name>, or writes its tokens out as <name1> <name2>."""
    return re.search(rf"<{re.escape(name)}[12]?>", caption) is not None


def _find(tree: FolderTree) -> tuple[list[_Found], list[Metadata]]:
    """The images of a folder and of kohya's folders in it, and what metadata was read."""
    here = tree.files(tree.root)
    metadata = [read_metadata(here.folder, here.images)]
    captions = metadata[0].captions
    found = [_Found(path) for path in here.images if path not in captions]
    found += [_Found(path, text) for path, text in captions.items()]
    for child in here.folders:
        kohya = kohya_folder(child)
        if kohya is None:
            continue
        if kohya.repeats > _MOST_REPEATS:
            raise InputError(
                f"{child} asks for {kohya.repeats} repeats, more than {_MOST_REPEATS}: {_RENAME}"
            )
        images = tree.files(child).images
        own = read_metadata(child, images)
        metadata.append(own)
        found += [
            _Found(path, own.captions.get(path), kohya.words, kohya.repeats)
            for path in dict.fromkeys((*images, *own.captions))
            if path not in captions
        ]
    return found, metadata


def _image(found: _Found, tree: FolderTree, name: str) -> ConceptImage:
    file = tree.caption_of(found.path) if found.text is None else None
    text = read_text(file) if file else found.text

    def caption_of(text: str) -> str:
        caption = " ".join(text.split()) or f"<{name}>"
        if found.words and not names_concept(caption, name):
            caption = re.sub(rf"\b{re.escape(found.words)}\b", f"<{name}>", caption)
        return caption

    caption = caption_of(text or "")
    lines = [caption_of(line) for line in (text or "").splitlines() if line.strip()]
    return ConceptImage(
        found.path,
        caption,
        tree.mask_of(found.path),
        found.repeats,
        captioned=bool(text and text.strip()),
        lines=tuple(lines) if len(lines) > 1 else (),
        caption_file=file,
    )


def _readable(
    images: Sequence[ConceptImage], skip_unreadable: bool
) -> tuple[list[ConceptImage], list[str]]:
    """The images that can be read, with their masks, and what is wrong with the others."""
    problems: list[str] = []
    readable: list[ConceptImage] = []
    for image in images:
        try:
            read_picture(image.path)
            if image.mask is not None:
                read_mask(image.mask, image.path)
        except InputError as error:
            problems.append(str(error))
        else:
            readable.append(image)
    if problems and not skip_unreadable:
        raise InputError(
            "cannot read " + "; ".join(problems)
            + ". Repair or remove them, or set training.skip_unreadable=true"
        )  # fmt: skip
    if not readable:
        raise InputError("no readable image is left: " + "; ".join(problems))
    return readable, problems


def _used(
    images: Sequence[ConceptImage],
    silent: Sequence[_Found],
    metadata: Sequence[Metadata],
    tree: FolderTree,
) -> set[Path]:
    """Every file that is used, or that something else is said about."""
    used = {file for one in images for file in (one.path, one.caption_file, one.mask) if file}
    used |= {one.file for one in metadata if one.file}
    for folder in {entry.path.parent for entry in silent}:
        used |= set(tree.files(folder).files)
    return used


def _naming(image: ConceptImage, name: str) -> ConceptImage:
    def named(caption: str) -> str:
        return caption if names_concept(caption, name) else f"<{name}> {caption}"

    return replace(image, caption=named(image.caption), lines=tuple(map(named, image.lines)))


def _inventory(name: str, images: Sequence[ConceptImage]) -> str:
    repeats = Counter(image.repeats for image in images)
    (most, _), *others = repeats.most_common()
    told = f"{counted(most, 'repeat')} each"
    if others:
        told = "repeats: " + ", ".join(f"{times} for {n} of them" for times, n in repeats.items())
    captions = sum(image.captioned for image in images)
    masks = sum(image.mask is not None for image in images)
    return (
        f"{name}: {counted(len(images), 'image')}, {counted(captions, 'caption')}, "
        f"{counted(masks, 'mask')}, {told}"
    )


def _of_silent(silent: Sequence[_Found], folder: Path) -> list[str]:
    places = Counter(str(entry.path.parent.relative_to(folder)) for entry in silent)
    return [
        f"not used: {counted(number, 'image')} in {place}/, which asks for 0 repeats: {_RENAME}"
        for place, number in places.items()
    ]


def _of_turned_masks(images: Sequence[ConceptImage]) -> list[str]:
    unsure = [
        image.mask.name
        for image in images
        if image.mask is not None and turn_is_unsure(image.mask, image.path)
    ]
    if not unsure:
        return []
    return [
        f"{counted(len(unsure), 'mask')} ({listed(unsure)}) of pictures that EXIF turns are taken "
        "as drawn on the turned picture, since their size does not tell"
    ]


def _of_captions(images: Sequence[ConceptImage], folder: Path, name: str) -> list[str]:
    given = sum(image.captioned for image in images)
    unnamed = sum(not names_concept(image.caption, name) for image in images)
    if not unnamed:
        return []
    return [
        f"{unnamed} of {given} captions in {folder} do not say <{name}>: it is put in front of them"
    ]
