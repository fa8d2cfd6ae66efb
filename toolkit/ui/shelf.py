"""The concepts that are trained or imported, and a picture of each."""

import io
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from toolkit.config.commands import TRAIN, content_of
from toolkit.config.lookup import choices, find_dataset
from toolkit.errors import InputError
from toolkit.images.files import image_suffixes, open_image, turned

_SIDE = 192
"""Pixels of a concept's picture."""


@dataclass(frozen=True)
class Shelved:
    """A concept file, as it tells of itself.

    model: the folder that it lies in, the name of its base. fits: None where that is not known
    before the base is loaded.
    """

    name: str
    model: str
    class_word: str
    trigger_words: str
    token_names: tuple[str, ...]
    base_name: str
    fits: bool | None
    trained: bool


def shelved(concepts: Path, model: str, architecture: str | None) -> list[Shelved]:
    """Every concept in a folder of concepts, those of the loaded base first.

    model, architecture: of that base; None where its files do not tell.
    """
    found = []
    for path in sorted(concepts.glob("*/*.safetensors")):
        metadata = _metadata(path)
        if metadata is None:
            continue
        own = metadata.get("base_architecture")
        fits = path.parent.name == model and (architecture is None or own == architecture)
        found.append(
            Shelved(
                name=path.stem,
                model=path.parent.name,
                class_word=metadata.get("class_word", ""),
                trigger_words=metadata.get("trigger_words", ""),
                token_names=_words(metadata.get("token_names", "[]")),
                base_name=metadata.get("base_name", ""),
                fits=fits,
                trained=metadata.get("training", "{}") != "{}",
            )
        )
    return sorted(found, key=lambda one: (not one.fits, one.name))


def picture_of(output_dir: Path, model: str, name: str, number: int = 0) -> bytes | None:
    """A small PNG: one of the images that a concept was trained on, or a sample of it.

    number: which of them; None where there are not so many.
    """
    for folder in (*_images(output_dir, name), output_dir / "sample" / model / name):
        for path in sorted(folder.rglob("*"))[:200]:
            if path.suffix.lower() in image_suffixes() and path.is_file():
                if number > 0:
                    number -= 1
                    continue
                try:
                    return _small(path, path.stat().st_mtime_ns)
                except InputError:
                    continue
    return None


def _images(output_dir: Path, name: str) -> list[Path]:
    uploaded = output_dir / "ui" / "datasets" / name
    found = [uploaded] if uploaded.is_dir() else []
    if name in choices("concept"):
        images = content_of(TRAIN, {"concept": name})["concept"].get("images")
        try:
            found.append(find_dataset(Path(str(images))))
        except InputError:
            return found
    return found


@lru_cache(maxsize=256)
def _small(path: Path, changed: int) -> bytes:
    stored = open_image(path)
    image = turned(stored.image, stored.orientation).convert("RGB")
    image.thumbnail((_SIDE, _SIDE))
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def _metadata(path: Path) -> dict[str, str] | None:
    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError):
        return None


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(word) for word in json.loads(text))
    except (ValueError, TypeError):
        return ()
