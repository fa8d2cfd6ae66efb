"""Textual inversion: one or several vectors that stand for a word, the same in every layer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.errors import InputError

_SDXL = {"clip_l", "clip_g"}


def find_vectors(content: Mapping[str, Any], path: Path) -> Tensor | None:
    """(tokens, dim) vectors of a textual inversion file; None when it is something else.

    Reads A1111's `string_to_param`, kohya's `emb_params`, and diffusers' one tensor by its word.
    Raises InputError for vectors of another base family or with values that are not finite.
    """
    if set(content) >= _SDXL:
        raise InputError(f"{path} is made for Stable Diffusion XL, not 1.x")
    vectors = content.get("emb_params")
    if isinstance(content.get("string_to_param"), Mapping):
        vectors = next(iter(content["string_to_param"].values()), None)
    elif vectors is None and len(content) == 1 and "." not in next(iter(content)):
        (vectors,) = content.values()
    if not isinstance(vectors, Tensor) or vectors.ndim not in (1, 2):
        return None
    vectors = vectors.detach().reshape(-1, vectors.shape[-1]).float()
    if vectors.numel() == 0 or not vectors.isfinite().all():
        raise InputError(f"{path} holds vectors that are empty or not finite")
    return vectors


def in_every_layer(vectors: Tensor, layers: int) -> Tensor:
    """(tokens, dim) to (tokens, layers, dim)."""
    return torch.stack([vectors] * layers, dim=1)
