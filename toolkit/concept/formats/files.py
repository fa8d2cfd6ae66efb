"""Files of unknown origin: tensors out, nothing executed, nothing inflated."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from toolkit.errors import InputError

_LARGEST_GROWTH = 1.5  # torch stores tensors uncompressed: what unpacks to more is no such file


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What a `.safetensors` file or a pickle of tensors holds, and its metadata.

    A pickle comes back as it is nested. It is read by torch's restricted unpickler, which builds
    tensors and plain containers only: anything else in it is refused and not run.
    Raises InputError for a file that is missing, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    content = _unpickled(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not named tensors")
    return content, {}


def flat_tensors(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors by name; InputError when something else is among them, or values not finite."""
    for name, tensor in content.items():
        if not isinstance(tensor, Tensor):
            raise InputError(f"{path}: {name} is a {type(tensor).__name__}, not a tensor")
        if not torch.is_floating_point(tensor) or not tensor.isfinite().all():
            raise InputError(f"{path}: {name} holds values that are not finite numbers")
    return content


def adapter_config(path: Path) -> dict[str, Any]:
    """PEFT's `adapter_config.json` beside a file; empty where there is none."""
    beside = path.with_name("adapter_config.json")
    if not beside.is_file():
        return {}
    try:
        content = json.loads(beside.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{beside}: cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"{path} is not a whole .safetensors file: {_first(error)}") from error


def _unpickled(path: Path) -> object:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > _LARGEST_GROWTH * path.stat().st_size + 4096:
                raise InputError(
                    f"{path} is refused: it unpacks to {unpacked / 1e6:.0f} MB, which no file of "
                    "tensors does"
                )
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} is refused: it asks for more memory than there is") from error
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        AssertionError,
        UnicodeDecodeError,
        OverflowError,
        OSError,
    ) as error:
        raise InputError(
            f"{path} is refused: it is damaged, or a pickle that holds more than tensors"
        ) from error


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["unreadable"])[0]
