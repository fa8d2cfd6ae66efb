"""Read ED-LoRAs that Mix-of-Show wrote: a `.pth` with embeddings and LoRA pairs."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.concept.concept import Concept, LowRank
from toolkit.errors import InputError

_SIDE = re.compile(r"(?P<path>.+?)(?:\.lora_|_lora\.)(?P<side>down|up)\.weight")


def load_mix_of_show(path: Path, name: str, class_word: str = "") -> Concept:
    """Read `path` as the concept `name`, with its tokens renamed to <name1>, <name2>, ...

    Reads the main branch's keys (`to_q.lora_down.weight`) and the research branch's
    (`to_q_lora.down.weight`), with or without the outer `params`.
    Raises InputError when the file is no such thing, or a pickle that holds more than tensors;
    nothing in it is executed.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(
            f"{path} is refused: it is damaged, or a pickle that holds more than tensors"
        ) from error
    if isinstance(content, dict):
        content = content.get("params", content)
    if not isinstance(content, dict) or not {"new_concept_embedding", "unet"} <= set(content):
        raise InputError(f"{path} is not a Mix-of-Show ED-LoRA")
    tokens = content["new_concept_embedding"]
    if not isinstance(tokens, dict) or not tokens:
        raise InputError(f"{path} holds no token embeddings")
    embeddings = torch.stack([_layerwise(tokens[token]) for token in sorted(tokens)])
    return Concept(
        name=name,
        embeddings=embeddings,
        token_names=tuple(f"<{name}{number + 1}>" for number in range(len(tokens))),
        unet=_pairs(content["unet"], path),
        text_encoder=_pairs(content.get("text_encoder", {}), path),
        class_word=class_word,
    )


def _layerwise(embedding: Tensor) -> Tensor:
    return embedding if embedding.ndim == 2 else embedding[None]


def _pairs(weights: dict[str, Any], path: Path) -> dict[str, LowRank]:
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        match = _SIDE.fullmatch(key)
        if match is None:
            raise InputError(f"{path}: unknown weight {key}")
        module = match["path"].removeprefix("text_model.").replace(".processor.", ".")
        module = re.sub(r"\.to_out$", ".to_out.0", module)
        sides.setdefault(module, {})[match["side"]] = tensor
    for module, pair in sides.items():
        if set(pair) != {"down", "up"} or pair["down"].shape[0] != pair["up"].shape[1]:
            raise InputError(f"{path}: {module} is not a matching pair of down and up")
    return {module: LowRank(pair["down"], pair["up"]) for module, pair in sides.items()}
