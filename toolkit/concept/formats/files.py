"""Files of unknown origin: tensors out, nothing executed, nothing inflated."""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from toolkit.contents import PICKLE, SAFETENSORS, ZIP, content_of
from toolkit.errors import InputError
from toolkit.text.files import read_text
from toolkit.text.json_values import read_json

_LARGEST_GROWTH = 1.5  # torch stores tensors uncompressed: what unpacks to more is no such file
_ADAPTER_FILES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What a `.safetensors` file or a pickle of tensors holds, and its metadata.

    The kind of file is told by its content, whatever it is called. A pickle comes back as it is
    nested. It is read by torch's restricted unpickler, which builds tensors and plain containers
    only: anything else in it is refused and not run.
    Raises InputError for a file that is missing, damaged, or holds more than tensors.
    """
    if path.is_dir():
        inside = next((path / name for name in _ADAPTER_FILES if (path / name).is_file()), None)
        raise InputError(
            f"{path} is a folder: give the file in it{f', {inside}' if inside else ''}"
        )
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    content = content_of(path)
    if content is SAFETENSORS or (content is None and path.suffix.lower() == ".safetensors"):
        return _read_safetensors(path)
    if content not in (PICKLE, ZIP, None):
        raise InputError(f"{path} is refused: it is {content}")
    held = _unpickled(path)
    if not isinstance(held, dict):
        raise InputError(f"{path} holds a {type(held).__name__}, not named tensors")
    if not all(isinstance(name, str) for name in held):
        raise InputError(f"{path} holds parts without names, as a hypernetwork does; it is no LoRA")
    return held, {}


def flat_tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors by name, as floats.

    InputError when something else is among them, or values are not finite; whole numbers are taken
    for `alpha` and `on_input` only.
    """
    found = {}
    for name, tensor in content.items():
        if isinstance(tensor, Mapping):
            raise InputError(
                f"{path}: {name} is a group of parts, as a whole model or a training checkpoint "
                "has; it is no LoRA"
            )
        if not isinstance(tensor, Tensor):
            raise InputError(f"{path}: {name} is a {type(tensor).__name__}, not a tensor")
        found[name] = finite(
            tensor, f"{path}: {name}", whole=name.endswith((".alpha", ".on_input"))
        )
    return found


def finite(tensor: Tensor, where: str, whole: bool = False) -> Tensor:
    """The tensor, in a type that can be computed with. InputError where it holds no finite floats.

    whole: whole numbers are taken as well.
    """
    if tensor.layout is not torch.strided or tensor.is_meta:
        raise InputError(f"{where} is a sparse or empty tensor, which no LoRA holds")
    tensor = tensor.detach()
    is_whole = not tensor.is_floating_point() and not tensor.is_complex()
    if is_whole and whole and tensor.dtype is not torch.bool:
        return tensor.float()
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"{where} holds {kind} values, not finite numbers of a float type")
    if tensor.element_size() == 1:  # the 8-bit floats know no arithmetic
        tensor = tensor.float()
    if not tensor.isfinite().all():
        raise InputError(f"{where} holds values that are not finite numbers")
    return tensor


def adapter_config(path: Path) -> dict[str, Any]:
    """PEFT's `adapter_config.json` beside a file; empty where there is none."""
    beside = path.with_name("adapter_config.json")
    if not beside.is_file():
        return {}
    content = read_json(read_text(beside), str(beside))
    if not isinstance(content, dict):
        raise InputError(f"{beside}: must be a JSON object")
    return content


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, LookupError) as error:
        raise InputError(f"{path} is not a whole .safetensors file: {_first(error)}") from error


def _unpickled(path: Path) -> object:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > _LARGEST_GROWTH * path.stat().st_size + 4096:
                raise InputError(
                    f"{path} is refused: it unpacks to {unpacked / 1e6:.0f} MB, which no file of "
                    "tensors does"
                )
            if not any(entry.filename.endswith("data.pkl") for entry in entries):
                raise InputError(f"{path} is refused: it is {ZIP}")
        # the first textual inversions are a dictionary of this class
        allowed = torch.serialization.safe_globals([torch.nn.ParameterDict])
        with allowed, path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused in a line of ours
            # given a path, torch would look at its suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} is refused: it asks for more memory than there is") from error
    except (
        pickle.UnpicklingError,
        struct.error,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
        OverflowError,
        OSError,
        NotImplementedError,
    ) as error:
        more = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
        if more:
            raise InputError(
                f"{path} is refused: it is a pickle that holds more than tensors ({more[1]}), and "
                "could run code: convert it to .safetensors where you trust it"
            ) from error
        if content_of(path) is PICKLE:
            raise InputError(
                f"{path} is refused: it is a pickle that is damaged or not torch's: convert it to "
                ".safetensors where you trust it"
            ) from error
        raise InputError(f"{path} is refused: it is damaged, or no file of tensors") from error


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["unreadable"])[0]
