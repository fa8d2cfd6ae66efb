"""ED-LoRAs that Mix-of-Show wrote: a `.pth` with embeddings and LoRA pairs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.concept.concept import Concept, LowRank, tokens_of
from toolkit.concept.formats.files import read_tensors
from toolkit.errors import InputError

_SIDE = re.compile(r"(?P<path>.+?)(?:\.lora_|_lora\.)(?P<side>down|up)\.weight")
_EMBEDDINGS = "new_concept_embedding"


def load_mix_of_show(path: Path, name: str, class_word: str = "") -> Concept:
    """Read `path` as the concept `name`, with its tokens renamed to <name1>, <name2>, ...

    Reads the main branch's keys (`to_q.lora_down.weight`) and the research branch's
    (`to_q_lora.down.weight`), with or without the outer `params`.
    Raises InputError when the file is no such thing, or a pickle that holds more than tensors;
    nothing in it is executed.
    """
    content, _ = read_tensors(path)
    if not is_edlora(content):
        raise InputError(f"{path} is not a Mix-of-Show ED-LoRA")
    return concept_from_edlora(content.get("params", content), path, name, class_word)


def is_edlora(content: Mapping[str, Any]) -> bool:
    """Whether a file's content is Mix-of-Show's."""
    params = content.get("params", content)
    return isinstance(params, Mapping) and {_EMBEDDINGS, "unet"} <= set(params)


def concept_from_edlora(
    params: Mapping[str, Any], path: Path, name: str, class_word: str = ""
) -> Concept:
    """The concept that `params` of such a file holds."""
    embeddings = embeddings_of(params, path)
    return Concept(
        name=name,
        embeddings=embeddings,
        token_names=tokens_of(name, len(embeddings)),
        unet=_pairs(params["unet"], path),
        text_encoder=_pairs(params.get("text_encoder", {}), path),
        class_word=class_word,
    )


def embeddings_of(params: Mapping[str, Any], path: Path) -> Tensor:
    """(tokens, layers, dim), the tokens in the order of their names."""
    tokens = params[_EMBEDDINGS]
    if not isinstance(tokens, Mapping) or not tokens:
        raise InputError(f"{path} holds no token embeddings")
    vectors = [tokens[token] for token in sorted(tokens)]
    if not all(isinstance(vector, Tensor) and vector.ndim in (1, 2) for vector in vectors):
        raise InputError(f"{path}: its token embeddings are not tensors of (layers, width)")
    layered = [vector if vector.ndim == 2 else vector[None] for vector in vectors]
    if len({vector.shape for vector in layered}) > 1:
        raise InputError(f"{path}: its token embeddings differ in shape")
    stacked = torch.stack(layered).detach()
    if not torch.is_floating_point(stacked) or not stacked.isfinite().all():
        raise InputError(f"{path}: its token embeddings are not finite numbers")
    return stacked


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
        if not torch.is_floating_point(tensor) or not tensor.isfinite().all():
            raise InputError(f"{path}: {key} holds values that are not finite numbers")
        module = match["path"].removeprefix("text_model.").replace(".processor.", ".")
        module = re.sub(r"\.to_out$", ".to_out.0", module)
        sides.setdefault(module, {})[match["side"]] = tensor
    for module, pair in sides.items():
        if set(pair) != {"down", "up"} or pair["down"].shape[0] != pair["up"].shape[1]:
            raise InputError(f"{path}: {module} is not a matching pair of down and up")
    return {module: LowRank(pair["down"], pair["up"]) for module, pair in sides.items()}
