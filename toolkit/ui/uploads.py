"""What is sent to the server: files of bounded size and number, told by what they hold."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from PIL import Image

from toolkit.contents import PICKLE, PICTURE, SAFETENSORS, ZIP, content_of
from toolkit.errors import InputError, shortened
from toolkit.images.files import image_suffixes, open_image, told_of
from toolkit.names import check_name

MOST_IMAGES = 1000
_MOST_MEGAPIXELS = 64
_CAPTIONS = (".txt", ".caption")
_LARGEST_CAPTION = 64 * 1024


async def received(body: AsyncIterator[bytes], path: Path) -> Path:
    """A request's body in a file, which is removed when the sender goes before its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("wb") as file:
            async for part in body:
                file.write(part)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def temporary(folder: Path, suffix: str) -> Path:
    """A name that nothing has yet."""
    return folder / f"{uuid.uuid4().hex}{suffix}"


def check_weights(path: Path) -> None:
    """Raise InputError for a file that begins as none that can hold a LoRA."""
    content = content_of(path)
    if content not in (SAFETENSORS, PICKLE, ZIP, None):
        raise InputError(f"the file is refused: it is {content}")


def training_folder(output_dir: Path, name: str) -> Path:
    """Where images that were sent for a concept lie. Raises InputError for no name."""
    check_name("concept", name)
    return output_dir / "ui" / "datasets" / name


def image_path(folder: Path, name: str) -> Path:
    """Where a file that was sent is kept. Raises InputError for one that cannot be, or too many.

    name: the file's, as the person has it; it may begin with `masks/`.
    """
    *above, last = name.split("/")
    suffix = Path(last).suffix.lower()
    known = suffix in image_suffixes() or suffix in _CAPTIONS
    if above not in ([], ["masks"]) or last.startswith(".") or "\\" in name or "\0" in name:
        raise InputError(f"{shortened(name)}: cannot be a file's name here")
    if not known:
        raise InputError(f"{shortened(name)}: no image, and no caption (.txt)")
    if len(last.encode()) > 200:
        raise InputError(f"{shortened(name)}: the name is too long")
    if folder.is_dir() and sum(1 for _ in folder.rglob("*")) >= 2 * MOST_IMAGES:
        raise InputError(f"more than {MOST_IMAGES} images: a concept needs 6 to 30")
    return folder.joinpath(*above, last)


def check_image(path: Path, name: str) -> None:
    """Raise InputError for a file that is no whole image or caption, or a huge one."""
    if Path(name).suffix.lower() in _CAPTIONS:
        if path.stat().st_size > _LARGEST_CAPTION:
            raise InputError(f"{shortened(name)}: too long to be a caption")
        return
    if content_of(path) not in (PICTURE, None):
        raise InputError(f"{shortened(name)}: {content_of(path)}")
    shown = shortened(name)
    try:
        with told_of(path), Image.open(path) as image:  # no pixel is decoded yet
            width, height = image.size
        if width * height > _MOST_MEGAPIXELS * 1_000_000:
            raise InputError(f"{shown}: more than {_MOST_MEGAPIXELS} megapixels: make it smaller")
        open_image(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), shown)) from error
