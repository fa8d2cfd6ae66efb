"""The header of a .safetensors file: names, shapes and metadata, without torch or values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from toolkit.contents import content_of
from toolkit.errors import InputError


@dataclass(frozen=True)
class Header:
    """What a file says of its tensors. types: as safetensors calls them, F16 and its like."""

    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """The header of a file. Raises InputError for a file that is missing, damaged or another."""
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return Header(
                {name: tuple(one.get_shape()) for name, one in slices.items()},
                {name: str(one.get_dtype()) for name, one in slices.items()},
                dict(file.metadata() or {}),
            )
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        content = content_of(path)
        if content is not None and "safetensors" not in content.name:
            raise InputError(
                f"{path} is {content.name}: only .safetensors files say what they are without "
                "being run; toolkit import reads others"
            ) from error
        raise InputError(f"{path} is not a whole .safetensors file: {error}") from error
