"""What a file is, told by how it begins and not by what it is called."""

import re
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import InputError


@dataclass(frozen=True)
class Content:
    """A kind of file. advice: what to do with one that stands where another kind is needed."""

    name: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.advice}" if self.advice else self.name


SAFETENSORS = Content("a .safetensors file")
ZIP = Content("a zip archive", "unpack it and give a file that was in it")
PICKLE = Content("a pickle")
PICTURE = Content("a picture")
_LFS = Content("a Git LFS pointer", "fetch the file: git lfs pull")
_WEB_PAGE = Content("a web page", "download the file itself")
_RICH_TEXT = Content("a rich text", "save it as plain text")
NO_PLAIN_TEXT = (_LFS, _WEB_PAGE, _RICH_TEXT)
"""What is text to a computer, and not what a person meant to write."""
_TEXT = Content("a text", "download the file itself")
_PACKED = Content("a packed archive", "unpack it and give a file that was in it")
_HEIC = Content("a HEIC picture", "convert it to PNG or JPEG")
_FILM = Content("a film", "save its pictures as PNG or JPEG")

# Patterns for the first bytes; the first that fits is taken.
_BEGINNINGS = (
    (rb"version https://git-lfs", _LFS),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?(<!doctype html|<html)", _WEB_PAGE),
    (rb"\{\\rtf", _RICH_TEXT),
    (rb"(?i)\s*(<\?xml[^>]*>\s*)?<svg", Content("an SVG drawing", "save it as PNG")),
    (rb"\s*<\?xml", Content("an XML document", "download the file itself")),
    (rb"\s*[{\[]\s*[\"{\[\]}]", Content("a JSON text", "download the file itself")),
    (rb"PK\x03\x04|PK\x05\x06", ZIP),
    (rb"\x80[\x02-\x05]", PICKLE),
    (rb"GGUF", Content("a GGUF file", "take the .safetensors of the same model")),
    (rb"\x89HDF", Content("an HDF5 file", "convert it to .safetensors")),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM.{4}\0\0\0\0|8BPS", PICTURE),
    (rb"....ftypavi[fs]", Content("an AVIF picture", "convert it to PNG or JPEG")),
    (rb"....ftyp(hei|hev|mif1|msf1)", _HEIC),
    (rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI", _FILM),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", Content("a JPEG XL picture", "convert it to PNG or JPEG")),
    (rb"%PDF", Content("a PDF", "save its pictures as PNG or JPEG")),
    (rb"Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar", _PACKED),
)  # fmt: skip
_COMPILED = tuple((re.compile(pattern, re.DOTALL), content) for pattern, content in _BEGINNINGS)


def content_of(path: Path) -> Content | None:
    """What a file is; None when it begins as nothing that is known.

    Raises InputError for a file that is missing, empty, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise InputError(f"{path} is refused: it is empty")
    return content_in(head)


def content_in(head: bytes) -> Content | None:
    """What a file is whose first bytes, up to 512, are these."""
    if head[8:9] == b"{" and (b"\0" in head[:8] or not head[:8].isascii()):
        return SAFETENSORS  # a length of 8 bytes, then JSON
    found = next((content for pattern, content in _COMPILED if pattern.match(head)), None)
    return _TEXT if found is None and _is_text(head) else found


def _is_text(head: bytes) -> bool:
    text = head.decode(errors="ignore")
    cut_off = len(head) - len(text.encode())  # of a letter that the head ends in
    return bool(text) and cut_off < 4 and all(c.isprintable() or c.isspace() for c in text)
