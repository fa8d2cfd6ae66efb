"""The fingerprint of a base's weights, read from its files without torch."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

HEAD = 64
"""Values of each tensor that a fingerprint looks at."""
_BUFFERS = ("position_ids",)
"""Tensors that older files hold, and that the libraries leave out."""
_LONGEST_HEADER = 100_000_000  # bytes; what safetensors itself takes
_TYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "BF16": np.dtype("<u2"),
}
_NAMES = ("model", "diffusion_pytorch_model")


class Unknown(Exception):
    """The files do not tell which weights a base will have."""


def fingerprint_of_files(folders: Sequence[Path], dtype: str) -> str:
    """What `weights_fingerprint` gives for the modules in these folders, loaded as `dtype`.

    Raises Unknown for other files than .safetensors, for a choice of files, and for damaged ones.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for _, head in sorted(_heads(folder).items()):
            digest.update(_as_loaded(head, dtype).astype("<f2").tobytes())
    return digest.hexdigest()[:16]


def _heads(folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The first values of each tensor of a module, by name."""
    heads: dict[str, npt.NDArray[np.float32]] = {}
    try:
        for file in _files(folder):
            heads |= _heads_of(file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unknown(f"{folder}: {error}") from error
    return heads


def _files(folder: Path) -> list[Path]:
    """The files that the libraries load a module from."""
    single = [file for name in _NAMES if (file := folder / f"{name}.safetensors").is_file()]
    indices = [
        file for name in _NAMES if (file := folder / f"{name}.safetensors.index.json").is_file()
    ]
    if len(single) + len(indices) != 1:
        raise Unknown(f"{folder}: no weights, or a choice of them")
    if single:
        return single
    shards = json.loads(indices[0].read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / name for name in sorted(set(shards))]


def _heads_of(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The first values of each tensor of a file, as float32."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _LONGEST_HEADER:
            raise Unknown(f"{file} is no .safetensors file")
        header: dict[str, Any] = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        ends = [int(about["data_offsets"][1]) for about in header.values()]
        if file.stat().st_size != 8 + length + max(ends, default=0):
            raise Unknown(f"{file} is not whole")
        heads = {}
        for name, about in header.items():
            if name.rpartition(".")[2] in _BUFFERS:
                continue
            kind = about["dtype"]
            if kind not in _TYPES:
                raise Unknown(f"{file}: {name} is of type {kind}")
            start, end = about["data_offsets"]
            opened.seek(8 + length + start)
            size = _TYPES[kind].itemsize
            held = np.frombuffer(opened.read(min(HEAD * size, end - start)), _TYPES[kind])
            heads[name] = _from_bfloat16(held) if kind == "BF16" else held.astype(np.float32)
    return heads


def _as_loaded(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.float32]:
    """What is left of values in the type that the base is held in."""
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest, ties to even
        return _from_bfloat16(rounded.astype(np.uint16))
    return values


def _from_bfloat16(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)
