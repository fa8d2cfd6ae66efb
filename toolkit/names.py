"""What a name and a text may hold, wherever they come from."""

import re

from toolkit.errors import InputError, shortened

LONGEST_NAME = 200
"""Bytes: a file's name may have 255, and what is made of a name has a prefix and a suffix."""


def check_name(what: str, name: str) -> None:
    """Raise InputError for a name that cannot be a file's and stand as <name> in a prompt."""
    shown = shortened(name)
    if not re.fullmatch(r"[\w-]+", name):
        raise InputError(f"{what} {shown!r}: a name has letters, digits, - and _ only")
    if len(name.encode()) > LONGEST_NAME:
        raise InputError(f"{what} {shown!r}: is too long to be the name of a file")


def check_folder_name(what: str, name: str) -> None:
    """Raise InputError for what cannot be the name of a method's folder."""
    if not re.fullmatch(r"[\w-][\w+=.,-]*", name):
        raise InputError(
            f"{what} {shortened(name)!r}: a folder's name has letters, digits and - _ + = . only"
        )
    if len(name.encode()) > LONGEST_NAME:
        raise InputError(f"{what} {shortened(name)!r}: is too long to be the name of a folder")


def check_characters(what: str, text: str) -> None:
    """Raise InputError for text with halves of characters in it, or with NULs."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} {shortened(text)!r}: character {error.start + 1} is half of a character (a "
            "broken emoji, or text that is not UTF-8): write it again"
        ) from error
    if "\0" in text:
        raise InputError(f"{what} {shortened(text)!r}: holds NULs, which text cannot")


def check_texts(value: object) -> None:
    """Raise InputError for a text that `check_characters` refuses, anywhere in plain values."""
    if isinstance(value, str):
        check_characters("text", value)
    elif isinstance(value, dict):
        for key, part in value.items():
            check_texts(key)
            check_texts(part)
    elif isinstance(value, list | tuple | set):
        for part in value:
            check_texts(part)
