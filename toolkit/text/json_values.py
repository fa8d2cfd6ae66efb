"""JSON that a person wrote: a key that stands twice is an error, and so is NaN."""

import json
import math
from typing import Any, NoReturn

from toolkit.errors import InputError, shown
from toolkit.names import check_texts
from toolkit.text.look_alikes import look_alikes


def read_json(text: str, where: str) -> Any:
    """The value that `text` holds. Raises InputError that says where it stood and what is wrong."""
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_no_number
        )
        check_texts(value)
        return value
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if "\n" in text.strip() else ""
        place = f"character {error.colno}"
        found = look_alikes(text[error.pos : error.pos + 1])
        place += f": {found}" if found else ""
        raise InputError(f"{where}{line} is not JSON: {error.msg} ({place})") from error
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply") from error
    except (ValueError, InputError) as error:
        raise InputError(f"{where}: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"key {shown(key)} stands twice")
        found[key] = value
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InputError(f"{text} is too large for a number")
    return value


def _no_number(name: str) -> NoReturn:
    raise InputError(f"{name} is no number")
