"""Text from files: UTF-8 and nothing else, split at newlines and nowhere else."""

from pathlib import Path

from toolkit.contents import NO_PLAIN_TEXT, PICTURE, SAFETENSORS, ZIP, content_in
from toolkit.errors import InputError

_BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_text(path: Path) -> str:
    """The text of a file, with or without a byte order mark; newlines are `\\n`.

    Raises InputError, naming the file and the line, for what is not UTF-8 text.
    """
    try:
        if path.is_fifo():  # which never ends
            raise OSError("it is a pipe")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    meant = content_in(content[:512])
    if meant in NO_PLAIN_TEXT:
        raise InputError(f"{path} is {meant}")
    encoding = _BYTE_ORDER_MARKS.get(content[:2])
    if encoding:
        raise InputError(f"{path} is not UTF-8 text but {encoding}: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if meant in (PICTURE, SAFETENSORS, ZIP):
            raise InputError(f"{path} is {meant.name}, and no text") from error
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} is not UTF-8 text (line {line}): save it as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path} is not UTF-8 text (line {line} holds NULs): save it as UTF-8")
    return text.replace("\r\n", "\n")


def split_lines(text: str) -> list[str]:
    """The lines of `text`; U+2028, U+0085 and the like are characters as any other."""
    return text.split("\n")
