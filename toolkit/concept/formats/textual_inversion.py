"""Textual inversion: one or several vectors that stand for a word, the same in every layer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.backbones.families import is_lora
from toolkit.concept.formats.files import finite
from toolkit.errors import InputError


def find_vectors(content: Mapping[str, Any], path: Path) -> Tensor | None:
    """(tokens, dim) vectors of a textual inversion file; None when it is something else.

    Reads A1111's `string_to_param`, kohya's `emb_params`, and diffusers' one tensor by its word.
    Raises InputError for vectors of another base family, of several words, or with values that are
    not finite.
    """
    for part, family in (
        ("t5xxl", "Flux or Stable Diffusion 3"),
        ("clip_g", "Stable Diffusion XL"),
    ):
        if part in content:
            raise InputError(f"{path} is made for {family}, not Stable Diffusion 1.x")
    words = _by_word(content)
    if words is None:
        return None
    if len(words) > 1:
        raise InputError(
            f"{path} is a textual inversion of {len(words)} words ({', '.join(words)}): save each "
            "in a file of its own"
        )
    ((word, vectors),) = words.items()
    vectors = finite(vectors, f"{path}: {word}").reshape(-1, vectors.shape[-1]).float()
    if vectors.numel() == 0 or not vectors.isfinite().all():
        raise InputError(f"{path} holds vectors that are empty or not finite")
    return vectors


def embedding_beside(lora: Path) -> Path:
    """Where an export of a LoRA leaves the textual inversion that belongs to it."""
    return lora.with_name(f"{lora.stem}_embedding{lora.suffix}")


def in_every_layer(vectors: Tensor, layers: int) -> Tensor:
    """(tokens, dim) to (tokens, layers, dim)."""
    return torch.stack([vectors] * layers, dim=1)


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
