"""What lies in one folder of a concept: which files are images, captions and masks."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from toolkit.errors import InputError
from toolkit.images.files import image_format, image_suffixes, is_colourless

CAPTIONS = (".txt", ".caption")
_MASK_FOLDERS = ("masks", "mask")
_LABEL, _CONDITION_MARK = "-masklabel", "-condlabel"  # OneTrainer's
# What else people write beside or around an image's stem.
_MASK_NAMES = (
    re.compile(
        r"(?P<stem>.+?)(?:[_.\- ]?\(masks?\)|[_.\- ](?:masks?|segmentation|seg|matte))", re.I
    ),
    re.compile(r"masks?[_.\- ](?P<stem>.+)", re.I),
)
_SYSTEM = {"thumbs.db", "desktop.ini", "__macosx"}
_NO_PICTURES = {
    *CAPTIONS,
    ".json",
    ".jsonl",
    ".csv",
    ".md",
    ".yaml",
    ".yml",
    ".safetensors",
    ".npz",
}
# Formats of pictures and films that people have and Pillow does not open.
_UNREAD = {
    ".avif", ".heic", ".heif", ".hif", ".jxl", ".svg", ".eps", ".pdf", ".xcf", ".kra", ".exr",
    ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf",
    ".mp4", ".mov", ".webm", ".mkv", ".avi",
}  # fmt: skip
_KOHYA = re.compile(r"(?P<repeats>\d+)_(?P<words>.+)")


@dataclass(frozen=True)
class FolderFiles:
    """The files and folders that lie in `folder`, sorted; hidden ones are left out."""

    folder: Path
    files: tuple[Path, ...]
    folders: tuple[Path, ...]

    @cached_property
    def pictures(self) -> tuple[Path, ...]:
        """Every file that is a picture, masks among them."""
        return tuple(path for path in self.files if _is_picture(path))

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """The pictures that are no masks and no conditions of another."""
        return tuple(p for p in self.pictures if p not in self._marked)

    def is_picture(self, path: Path) -> bool:
        """Whether a file that lies here is a picture."""
        return path in self._pictures

    def is_image(self, path: Path) -> bool:
        """Whether a file that lies here is a picture of its own."""
        return path in self._pictures and path not in self._marked

    @cached_property
    def _pictures(self) -> frozenset[Path]:
        return frozenset(self.pictures)

    @cached_property
    def masks_beside(self) -> dict[str, Path]:
        """Masks that lie beside their images, by the image's stem."""
        return {
            _composed(stem): path for path, stem in self._marked.items() if not is_condition(path)
        }

    @cached_property
    def captions(self) -> dict[str, Path]:
        """Caption files by `STEM.txt` or `STEM.caption`, whatever the case of their suffix."""
        return {
            _composed(path.stem) + path.suffix.lower(): path
            for path in self.files
            if path.suffix.lower() in CAPTIONS
        }

    @cached_property
    def mask_folders(self) -> tuple[Path, ...]:
        """`masks/` and `mask/`, whatever their case."""
        found = [path for path in self.folders if is_mask_folder(path)]
        return tuple(sorted(found, key=lambda path: _MASK_FOLDERS.index(path.name.lower())))

    @cached_property
    def _marked(self) -> dict[Path, str]:
        """Pictures that belong to another by their name, with the other's stem.

        OneTrainer's marks mean nothing else; `_mask` is a mask only beside an image of that name,
        and without colours: `dog_mask.jpg` may as well be a dog that wears one.
        """
        stems = {path.stem for path in self.pictures}
        found = {}
        for path in self.pictures:
            labelled = _without(path.stem, (_LABEL, _CONDITION_MARK))
            if labelled is not None:
                found[path] = labelled
                continue
            masked = next((stem for stem in _masked_stems(path.stem) if stem in stems), None)
            if masked is not None and is_colourless(path):
                found[path] = masked
        return found


@dataclass(frozen=True)
class Kohya:
    """What the name of a folder such as `10_sks dog` says."""

    repeats: int
    words: str


def kohya_folder(folder: Path) -> Kohya | None:
    """Repeats and words, for a folder that is named as kohya's are."""
    match = _KOHYA.fullmatch(folder.name)
    return Kohya(int(match["repeats"]), match["words"]) if match else None


class FolderTree:
    """A folder and all folders in it, each listed when it is first asked for."""

    def __init__(self, root: Path) -> None:
        """Nothing is read yet."""
        self.root = root
        self._listed: dict[Path, FolderFiles] = {}
        self._masks: dict[Path, dict[str, Path]] = {}

    def files(self, folder: Path) -> FolderFiles:
        """What lies in `folder`. Raises InputError where it cannot be listed."""
        if folder not in self._listed:
            self._listed[folder] = _list_folder(folder)
        return self._listed[folder]

    def walk(self) -> Iterator[FolderFiles]:
        """The root and every folder in it, once each."""
        waiting, seen = [self.root], set()
        while waiting:
            here = self.files(waiting.pop())
            if here.folder.resolve() not in seen:
                seen.add(here.folder.resolve())
                yield here
                waiting.extend(reversed(here.folders))

    def caption_of(self, image: Path) -> Path | None:
        """The caption file beside an image: `a.txt`, `a.caption` or `a.png.txt`."""
        captions = self.files(image.parent).captions
        stems = (_composed(image.stem), _composed(image.name))
        names = [f"{stem}{suffix}" for stem in stems for suffix in CAPTIONS]
        return next((captions[name] for name in names if name in captions), None)

    def mask_of(self, image: Path) -> Path | None:
        """The mask of an image: in `masks/` or `mask/`, beside it, or in the root's `masks/`."""
        beside, root = self.files(image.parent), self.files(self.root)
        near = [self._masks_in(folder) for folder in beside.mask_folders]
        far = [self._masks_in(folder) for folder in root.mask_folders]
        for masks in (*near, beside.masks_beside, *far):
            for name in (_composed(image.stem), _composed(image.name)):
                if name in masks:
                    return masks[name]
        return None

    def _masks_in(self, folder: Path) -> dict[str, Path]:
        """The masks of a mask folder, by the stem or the whole name of their image."""
        if folder not in self._masks:
            pictures = self.files(folder).pictures
            marked = {
                _composed(stem): path for path in pictures for stem in _masked_stems(path.stem)
            }
            self._masks[folder] = marked | {_composed(path.stem): path for path in pictures}
        return self._masks[folder]


def _list_folder(folder: Path) -> FolderFiles:
    try:
        entries = sorted(path for path in folder.iterdir() if not _is_hidden(path))
        folders = tuple(path for path in entries if path.is_dir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}") from error
    return FolderFiles(folder, tuple(path for path in entries if path not in folders), folders)


def is_mask_folder(folder: Path) -> bool:
    """Whether a folder holds masks by its name."""
    return folder.name.lower() in _MASK_FOLDERS


def is_condition(path: Path) -> bool:
    """Whether a picture is one that OneTrainer conditions on."""
    return path.stem.lower().endswith(_CONDITION_MARK)


def is_unread_picture(path: Path) -> bool:
    """Whether a file is a picture or a film of a format that is not read."""
    return path.suffix.lower() in _UNREAD - image_suffixes()


def _masked_stems(stem: str) -> list[str]:
    """The stems of images that a mask of this stem may belong to, by its name."""
    labelled = _without(stem, (_LABEL,))
    matches = [pattern.fullmatch(stem) for pattern in _MASK_NAMES]
    named = [match["stem"] for match in matches if match]
    return named if labelled is None else [labelled, *named]


def _without(stem: str, marks: tuple[str, ...]) -> str | None:
    """A stem without the mark that it ends in, whatever its case; None where it has none."""
    return next((stem[: -len(mark)] for mark in marks if stem.lower().endswith(mark)), None)


def _composed(name: str) -> str:
    """A name with one code for each letter: programs on macOS write two for é."""
    return unicodedata.normalize("NFC", name)


def _is_picture(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in image_suffixes():
        return path.is_file()
    if suffix in _NO_PICTURES or suffix in _UNREAD:
        return False
    return path.is_file() and image_format(path) is not None


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _SYSTEM
