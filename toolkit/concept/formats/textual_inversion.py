"""Textual inversion: one or several vectors that stand for a word, the same in every layer.

For a base of two text encoders a file has vectors for each.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.backbones import Part
from toolkit.backbones.families import is_lora
from toolkit.concept.formats.files import finite
from toolkit.errors import InputError

CLIP_NAMES = {Part.TEXT_ENCODER: "clip_l", Part.TEXT_ENCODER_2: "clip_g"}
"""What kohya's tools, A1111, ComfyUI and diffusers' scripts call the vectors of each encoder."""

_EARLIER_NAMES = {Part.TEXT_ENCODER: "text_encoders_0", Part.TEXT_ENCODER_2: "text_encoders_1"}
# of diffusers' scripts


def find_vectors(content: Mapping[str, Any], path: Path) -> dict[Part, Tensor] | None:
    """(tokens, dim) vectors of a textual inversion, by text encoder; None for another file.

    Reads A1111's `string_to_param`, kohya's `emb_params`, diffusers' one tensor by its word, and
    the `clip_l` and `clip_g` of a base of two text encoders.
    Raises InputError for vectors of another base family, of several words, of one text encoder of
    two, or with values that are not finite.
    """
    if "t5xxl" in content:
        raise InputError(f"{path} is made for Flux or Stable Diffusion 3, which cannot be read")
    for names in (CLIP_NAMES, _EARLIER_NAMES):
        if any(name in content for name in names.values()):
            return _of_two_encoders(content, names, path)
    words = _by_word(content)
    if words is None:
        return None
    if len(words) > 1:
        raise InputError(
            f"{path} is a textual inversion of {len(words)} words ({', '.join(words)}): save each "
            "in a file of its own"
        )
    ((word, vectors),) = words.items()
    return {Part.TEXT_ENCODER: _as_rows(vectors, word, path)}


def embedding_beside(lora: Path) -> Path:
    """Where an export of a LoRA leaves the textual inversion that belongs to it."""
    return lora.with_name(f"{lora.stem}_embedding{lora.suffix}")


def in_every_layer(vectors: Tensor, layers: int) -> Tensor:
    """(tokens, dim) to (tokens, layers, dim)."""
    return torch.stack([vectors] * layers, dim=1)


def _of_two_encoders(
    content: Mapping[str, Any], names: Mapping[Part, str], path: Path
) -> dict[Part, Tensor]:
    found = {}
    for part, name in names.items():
        vectors = content.get(name)
        if not isinstance(vectors, Tensor) or not _is_vectors(vectors):
            wanted = " and ".join(names.values())
            raise InputError(
                f"{path} lacks the vectors {name}: Stable Diffusion XL needs {wanted}, for each of "
                "its text encoders"
            )
        found[part] = _as_rows(vectors, name, path)
    counts = [len(vectors) for vectors in found.values()]
    if len(set(counts)) > 1:
        raise InputError(
            f"{path} has {' and '.join(map(str, counts))} vectors for the two text encoders, which "
            "must have as many"
        )
    return found


def _as_rows(vectors: Tensor, name: str, path: Path) -> Tensor:
    """(tokens, dim) in float32. InputError when there are none, or values are not finite."""
    rows = finite(vectors, f"{path}: {name}").reshape(-1, vectors.shape[-1]).float()
    if rows.numel() == 0 or not rows.isfinite().all():
        raise InputError(f"{path} holds vectors that are empty or not finite")
    return rows


def _by_word(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The vectors of each word; None for content of another kind."""
    words = content.get("string_to_param")
    if isinstance(words, torch.nn.ParameterDict):
        words = dict(words.items())
    elif "emb_params" in content:
        words = {"emb_params": content["emb_params"]}
    elif not isinstance(words, Mapping):
        words = content
    if not words or is_lora([str(word) for word in words]):
        return None
    if not all(isinstance(vectors, Tensor) and _is_vectors(vectors) for vectors in words.values()):
        return None
    widths = {vectors.shape[-1] for vectors in words.values()}
    one_each = all(vectors.ndim == 1 for vectors in words.values())
    if len(words) > 1 and not (len(widths) == 1 and (one_each or all("<" in w for w in words))):
        return None
    return {str(word): vectors for word, vectors in words.items()}


def _is_vectors(tensor: Tensor) -> bool:
    """(dim), (tokens, dim), or the latter once more in a list."""
    return tensor.ndim in (1, 2) or (tensor.ndim == 3 and len(tensor) == 1)
