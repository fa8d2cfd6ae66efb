"""ED-LoRAs that Mix-of-Show wrote: a `.pth` with embeddings and LoRA pairs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.unet.names import path_of
from toolkit.concept.concept import Concept, tokens_of
from toolkit.concept.formats.files import finite, read_tensors
from toolkit.errors import InputError

_SIDE = re.compile(r"(?P<path>.+?)(?:\.lora_|_lora\.)(?P<side>down|up)\.weight")
_EMBEDDINGS = "new_concept_embedding"


def load_mix_of_show(path: Path, name: str, class_word: str = "") -> Concept:
    """Read `path` as the concept `name`, with its tokens renamed to <name1>, <name2>, ...

    Reads the main branch's keys (`MAP.lora_down.weight`) and the research branch's
    (`MAP_lora.down.weight`), with or without the outer `params`.
    Raises InputError when the file is no such thing, or a pickle that holds more than tensors;
    nothing in it is executed.
    """
    content, _ = read_tensors(path)
    params = params_of(content)
    if params is None or not params.get(_EMBEDDINGS):
        raise InputError(f"{path} is not a Mix-of-Show ED-LoRA")
    return concept_from_edlora(params, path, name, torch.zeros(0, 0, 0), class_word)


def params_of(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a Mix-of-Show file holds, with or without the outer `params`; None for other files.

    Without embeddings, as it is trained with those switched off, it is one with the outer `params`.
    """
    params = content.get("params", content)
    if not isinstance(params, Mapping) or not isinstance(params.get("unet"), Mapping):
        return None
    return params if _EMBEDDINGS in params or "params" in content else None


def concept_from_edlora(
    params: Mapping[str, Any], path: Path, name: str, nothing: Tensor, class_word: str = ""
) -> Concept:
    """The concept that `params` of such a file holds; without tokens its embeddings are `nothing`.

    nothing: (0, layers, dim).
    """
    embeddings = embeddings_of(params, path)
    embeddings = nothing if embeddings is None else embeddings
    return Concept(
        name=name,
        embeddings=embeddings,
        token_names=tokens_of(name, len(embeddings)),
        unet=_pairs(params["unet"], path),
        text_encoder=_pairs(params.get("text_encoder", {}), path),
        class_word=class_word,
    )


def embeddings_of(params: Mapping[str, Any], path: Path) -> Tensor | None:
    """(tokens, layers, dim), the tokens in the file's order; None where there are none."""
    tokens = params.get(_EMBEDDINGS, {})
    if not isinstance(tokens, Mapping):
        raise InputError(f"{path} holds no token embeddings")
    if not tokens:
        return None
    vectors = list(tokens.values())
    if not all(isinstance(vector, Tensor) and vector.ndim in (1, 2) for vector in vectors):
        raise InputError(f"{path}: its token embeddings are not tensors of (layers, width)")
    layered = [vector if vector.ndim == 2 else vector[None] for vector in vectors]
    if len({vector.shape for vector in layered}) > 1:
        raise InputError(f"{path}: its token embeddings differ in shape")
    return torch.stack([finite(vector, f"{path}: its token embeddings") for vector in layered])


def _pairs(weights: object, path: Path) -> dict[str, LowRank]:
    if not isinstance(weights, Mapping):
        raise InputError(f"{path} is not a Mix-of-Show ED-LoRA")
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        match = _SIDE.fullmatch(str(key))
        if match is None:
            raise InputError(f"{path}: unknown weight {key}")
        if not isinstance(tensor, Tensor) or tensor.ndim != 2:
            raise InputError(f"{path}: {key} is no matrix")
        tensor = finite(tensor, f"{path}: {key}")
        sides.setdefault(path_of(match["path"]), {})[match["side"]] = tensor
    for module, pair in sides.items():
        if set(pair) != {"down", "up"} or pair["down"].shape[0] != pair["up"].shape[1]:
            raise InputError(f"{path}: {module} is not a matching pair of down and up")
    return {module: LowRank(pair["down"], pair["up"]) for module, pair in sides.items()}
