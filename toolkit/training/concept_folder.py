"""A folder of images of one concept, as people lay it out: captions and masks beside the images."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import InputError
from toolkit.training.pictures import read_mask, read_picture

logger = logging.getLogger(__name__)

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_KOHYA = re.compile(r"(?P<repeats>\d+)_(?P<words>.+)")


@dataclass(frozen=True)
class ConceptImage:
    """One image of a concept.

    caption: names the concept as <name>.
    mask: white where the subject is; None when there is none.
    repeats: how often it is seen in each round through the folder.
    """

    path: Path
    caption: str
    mask: Path | None = None
    repeats: int = 1


@dataclass(frozen=True)
class _Found:
    """An image and what the place it was found in says about it.

    text: its caption from metadata.jsonl.
    words: a kohya folder's words, which its captions use as the concept's name.
    """

    path: Path
    text: str | None = None
    words: str | None = None
    repeats: int = 1


def read_concept_folder(
    folder: Path, name: str, skip_unreadable: bool = False
) -> tuple[ConceptImage, ...]:
    """All images of `folder`, checked to be readable, in the order of their names.

    Reads plain folders, kohya's `10_sks dog` sub-folders (10 repeats; the words stand for the
    concept) and a Hugging Face `metadata.jsonl`. A caption is the metadata's `text`, or the text of
    `STEM.txt` or `STEM.caption`; without one it is `<name>`. A mask is `masks/STEM.png`.

    Raises InputError when the folder is missing or empty, or names every image and mask that
    cannot be read; with `skip_unreadable` these are left out with a warning.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder} with images of {name}: set concept.images=FOLDER")
    found = list(_find(folder))
    if not found:
        raise InputError(
            f"{folder} holds no images of {name} (looked for {', '.join(sorted(SUFFIXES))})"
        )
    images = [_with_sidecars(entry, folder, name) for entry in found]
    readable = _readable(images, skip_unreadable)
    unnamed = [image for image in readable if not names_concept(image.caption, name)]
    if unnamed:
        logger.warning(
            "%d of %d captions in %s do not say <%s>: it is put in front of them",
            len(unnamed), len(readable), folder, name,
        )  # fmt: skip
    return tuple(
        image
        if names_concept(image.caption, name)
        else ConceptImage(image.path, f"<{name}> {image.caption}", image.mask, image.repeats)
        for image in readable
    )


def _find(folder: Path) -> Iterator[_Found]:
    listed = _metadata(folder)
    for path in _images_in(folder):
        if path not in listed:
            yield _Found(path)
    for path, text in listed.items():
        yield _Found(path, text)
    for child in sorted(folder.iterdir()):
        kohya = _KOHYA.fullmatch(child.name)
        if child.is_dir() and kohya:
            for path in _images_in(child):
                if path not in listed:
                    yield _Found(path, None, kohya["words"], int(kohya["repeats"]))


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _metadata(folder: Path) -> dict[Path, str | None]:
    """Images and captions that `metadata.jsonl` lists."""
    path = folder / "metadata.jsonl"
    listed: dict[Path, str | None] = {}
    if not path.is_file():
        return listed
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            image, text = folder / entry["file_name"], entry.get("text")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}, line {number}: must be a JSON object with file_name and text"
            ) from error
        if not image.is_file():
            raise InputError(f"{path}, line {number}: there is no image {image}")
        listed[image] = None if text is None else str(text)
    return listed


def _with_sidecars(found: _Found, folder: Path, name: str) -> ConceptImage:
    caption = found.text
    if caption is None:
        caption = next(
            (
                _read_text(sidecar)
                for suffix in (".txt", ".caption")
                if (sidecar := found.path.with_suffix(suffix)).is_file()
            ),
            "",
        )
    caption = " ".join(caption.split()) or f"<{name}>"
    if found.words and not names_concept(caption, name):
        caption = re.sub(rf"\b{re.escape(found.words)}\b", f"<{name}>", caption)
    mask_name = f"{found.path.stem}.png"
    masks = (found.path.parent / "masks" / mask_name, folder / "masks" / mask_name)
    mask = next((path for path in masks if path.is_file()), None)
    return ConceptImage(found.path, caption, mask, found.repeats)


def _readable(images: list[ConceptImage], skip_unreadable: bool) -> list[ConceptImage]:
    problems: list[str] = []
    readable: list[ConceptImage] = []
    for image in images:
        problem = _problem(read_picture, image.path)
        if problem is None and image.mask is not None:
            problem = _problem(read_mask, image.mask)
        if problem is None:
            readable.append(image)
        else:
            problems.append(problem)
    if problems and not skip_unreadable:
        raise InputError(
            "cannot read " + "; ".join(problems)
            + ". Repair or remove them, or set training.skip_unreadable=true"
        )  # fmt: skip
    for problem in problems:
        logger.warning("left out: %s", problem)
    if not readable:
        raise InputError("no readable image is left: " + "; ".join(problems))
    return readable


def _problem(read: Callable[[Path], object], path: Path) -> str | None:
    try:
        read(path)
    except InputError as error:
        return str(error)
    return None


def names_concept(caption: str, name: str) -> bool:
    """Whether the caption says <name>, or writes its tokens out as <name1> <name2>."""
    return re.search(rf"<{re.escape(name)}[12]?>", caption) is not None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save it as UTF-8") from error
