"""Concept files: one .safetensors each, written whole or not at all."""

import json
import math
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from toolkit.backbones import Part
from toolkit.backbones.map_change import MapChange
from toolkit.backbones.unet.names import path_of, stored_name
from toolkit.concept.concept import Concept
from toolkit.concept.kinds import NoChange, change_of
from toolkit.concept.stored import ED_LORA, FORMAT, FORMAT_VERSION, RECIPE, RESIDUAL
from toolkit.errors import InputError
from toolkit.files import whole_file

_EMBEDDINGS = {
    Part.TEXT_ENCODER: "token_embeddings",
    Part.TEXT_ENCODER_2: "token_embeddings_2",
}
_LOSS = 0.01  # of a tensor's norm; float16 loses 0.0005 of values that it holds well
_TENSOR = re.compile(r"(?P<path>.+?)\.(?P<ending>lora_[AB]\.weight|[^.]+)")


def save_concept(concept: Concept, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Write `concept` to `path`; `dtype` is float16 or float32.

    What float16 cannot hold is written in float32.
    """
    tensors: dict[str, Tensor] = {
        _EMBEDDINGS[part]: own for part, own in concept.token_embeddings.items()
    }
    for part, changes in concept.changes.items():
        for name, change in changes.items():
            for ending, tensor in change.tensors.items():
                tensors[f"{stored_name(part, name)}.{ending}"] = tensor
    if concept.residual is not None:
        tensors[RESIDUAL] = concept.residual
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": concept.name,
        "token_names": json.dumps(concept.token_names),
        "trigger_words": concept.trigger_words,
        "class_word": concept.class_word,
        "rank": str(concept.rank),
        "scale": repr(concept.scale),
        "base_name": concept.base_name,
        "base_architecture": concept.architecture,
        "base_weights": concept.weights,
        "images": concept.images,
        "training": json.dumps(dict(concept.training), sort_keys=True),
    }
    if concept.recipe != ED_LORA:
        metadata[RECIPE] = concept.recipe
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if not all(_survives(tensor, dtype) for tensor in cpu.values()):
        dtype = torch.float32
    stored = {name: tensor.to(dtype) for name, tensor in cpu.items()}
    with whole_file(Path(path)) as temporary:
        save_file(stored, temporary, metadata)


def load_concept(path: Path) -> Concept:
    """Read a concept file. Tensors keep the type they were stored in.

    Raises InputError when the file is missing, damaged, or no concept file.
    """
    if not path.is_file():
        raise InputError(f"no concept file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, LookupError) as error:
        raise InputError(f"{path} is not a whole .safetensors file: {error}") from error
    if metadata.get("format") != FORMAT or _EMBEDDINGS[Part.TEXT_ENCODER] not in tensors:
        raise InputError(f"{path} is not a concept file of this toolkit")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {metadata.get('format_version')}; "
            f"this toolkit reads {FORMAT_VERSION}"
        )
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.float().isfinite().all():
            raise InputError(f"{path}: {name} holds values that are not finite")
    embeddings = {part: tensors.pop(name) for part, name in _EMBEDDINGS.items() if name in tensors}
    residual = tensors.pop(RESIDUAL, None)
    try:
        return Concept(
            name=metadata["name"],
            embeddings=embeddings[Part.TEXT_ENCODER],
            embeddings_2=embeddings.get(Part.TEXT_ENCODER_2),
            token_names=_token_names(metadata["token_names"]),
            trigger_words=metadata["trigger_words"],
            class_word=metadata["class_word"],
            scale=_finite(metadata["scale"]),
            unet=_changes(tensors, Part.UNET, path),
            text_encoder=_changes(tensors, Part.TEXT_ENCODER, path),
            text_encoder_2=_changes(tensors, Part.TEXT_ENCODER_2, path),
            base_name=metadata["base_name"],
            architecture=metadata["base_architecture"],
            weights=metadata["base_weights"],
            training=dict(json.loads(metadata["training"])),
            images=metadata.get("images", ""),  # files of earlier versions do not say
            residual=residual,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: its metadata is damaged ({error})") from error


def _survives(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether `dtype` holds a tensor's values: none becomes infinite, and few become nothing."""
    stored = tensor.to(dtype).float()
    if not stored.isfinite().all():
        return False
    return bool((stored - tensor.float()).norm() <= _LOSS * tensor.float().norm())


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _token_names(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("token_names is no list of words")
    return tuple(names)


def _changes(tensors: dict[str, Tensor], part: Part, path: Path) -> dict[str, MapChange]:
    prefix = f"{part}."
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if not name.startswith(prefix):
            continue
        match = _TENSOR.fullmatch(name.removeprefix(prefix))
        if match is None:
            raise InputError(f"{path}: unknown tensor {name}")
        found.setdefault(path_of(match["path"]), {})[match["ending"]] = tensor
    changes = {}
    for name, own in found.items():
        try:
            changes[name] = change_of(own)
        except NoChange as error:
            raise InputError(f"{path}: {prefix}{name} {error}") from error
    return changes
