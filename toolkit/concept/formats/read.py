"""Any file that others made, as a concept."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.backbones.families import SD1, SDXL, whole_part
from toolkit.concept.concept import Concept, tokens_of
from toolkit.concept.file import load_concept
from toolkit.concept.formats.combined import low_rank_difference
from toolkit.concept.formats.family import (
    FAMILY_OF_WIDTH,
    check_family,
    families_of_lora,
    other_family,
)
from toolkit.concept.formats.files import adapter_config, flat_tensors, read_tensors
from toolkit.concept.formats.lora import read_lora
from toolkit.concept.formats.mix_of_show import concept_from_edlora, embeddings_of, params_of
from toolkit.concept.formats.textual_inversion import (
    embedding_beside,
    find_vectors,
    in_every_layer,
)
from toolkit.concept.stored import FORMAT
from toolkit.errors import InputError

log = logging.getLogger(__name__)


def read_foreign(
    path: Path,
    name: str,
    base: Base,
    class_word: str = "",
    trigger: str = "",
    embedding: Path | None = None,
    largest_rank: int = 64,
) -> Concept:
    """Read `path` as the concept `name`, which then answers to <name>.

    Knows Mix-of-Show's ED-LoRAs and merged models, LoRAs of all kinds by kohya's tools, LyCORIS,
    diffusers and PEFT, textual inversions, and this toolkit's own files. `embedding` is a textual
    inversion that belongs to a LoRA; left out, the one that an export left beside it is taken, and
    that is said. `trigger` are the words that call a LoRA that has none.
    Raises InputError for what is none of these, damaged, dangerous, or does not fit `base`.
    """
    held, metadata = read_tensors(path)
    content = _unwrapped(held)
    params = params_of(content)
    ours = metadata.get("format") == FORMAT
    if ours:
        check_family(content, {}, path, base)
        concept = _renamed(load_concept(path), name)
    elif params is not None:
        concept = _from_mix_of_show(params, path, name, base, largest_rank)
    else:
        concept = _from_lora_or_vectors(content, metadata, path, name, base)
    if embedding is None and not concept.token_names and not ours:
        embedding = _beside(path, trigger)
    if embedding is not None:
        if len(concept.embeddings):
            raise InputError(f"{path} has embeddings of its own: leave out embedding=")
        concept = _with_vectors(concept, _vectors(embedding), embedding, base)
    if not concept.token_names and not _acts(concept):
        raise InputError(f"{path} would change nothing: all its values are 0, or it holds none")
    if not concept.token_names and not (trigger.strip() or concept.trigger_words):
        raise InputError(
            f"{path} holds no embeddings: say which words call it, with trigger='...' "
            "(or embedding=FILE, its textual inversion)"
        )
    if concept.token_names and trigger:
        raise InputError(f"{path} has embeddings, so <{name}> calls it: leave out trigger=")
    concept = replace(
        concept,
        class_word=class_word or concept.class_word,
        trigger_words=trigger or concept.trigger_words,
        base_name=base.name,
        architecture=base.architecture,
    )
    concept.check_fits(base)
    return concept


def _unwrapped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """What lies in a trainer's `state_dict`, where a file has one."""
    inner = content.get("state_dict")
    if isinstance(inner, Mapping) and all(isinstance(name, str) for name in inner):
        return inner
    return content


def _from_mix_of_show(
    params: Mapping[str, Any], path: Path, name: str, base: Base, largest_rank: int
) -> Concept:
    parts = {part: params.get(part, {}) for part in Part}
    for part, weights in parts.items():
        if not isinstance(weights, Mapping):
            raise InputError(f"{path}: {part} is a {type(weights).__name__}, not named tensors")
    if len(base.embedding_shapes) > 1:  # Mix-of-Show knows one text encoder
        families = families_of_lora(parts[Part.UNET], {})
        raise other_family(path, families or (SD1,), base)
    check_family(parts[Part.UNET], {}, path, base)
    nothing = _no_tokens(base)[Part.TEXT_ENCODER]
    if any("lora" in str(key) for weights in parts.values() for key in weights):
        return concept_from_edlora(params, path, name, nothing)
    merged = {
        part: flat_tensors({str(key): tensor for key, tensor in weights.items()}, path)
        for part, weights in parts.items()
    }
    found = low_rank_difference(merged, base, largest_rank, path)
    log.info(
        "%s holds whole weights: their difference from %s is kept to rank %d; lost of it: %.2g",
        path,
        base.name,
        max(
            (len(pair.down) for part in found.changes.values() for pair in part.values()), default=0
        ),
        found.lost,
    )
    embeddings = embeddings_of(params, path)
    embeddings = nothing if embeddings is None else embeddings
    return Concept(name, embeddings, tokens_of(name, len(embeddings)), {}, {}).with_changes(
        found.changes
    )


def _from_lora_or_vectors(
    content: Mapping[str, Any], metadata: Mapping[str, str], path: Path, name: str, base: Base
) -> Concept:
    empty = Concept(name, torch.zeros(0, 0, 0), (), {}, {}).with_tokens((), _no_tokens(base))
    if not content:
        raise InputError(f"{path} holds no tensors")
    _check_kind(content, path)
    check_family(content, metadata, path, base)
    vectors = find_vectors(content, path)
    if vectors is not None:
        return _with_vectors(empty, vectors, path, base)
    tensors = flat_tensors(content, path)
    changes = read_lora(tensors, metadata, adapter_config(path), base, path)
    return empty.with_changes(changes)


def _check_kind(content: Mapping[str, Any], path: Path) -> None:
    """Raise InputError, saying what it is, for a file that is no LoRA."""
    part = whole_part(content)
    if part is not None:
        as_base = "; a base is given with model.path=" if part.startswith("a whole") else ""
        raise InputError(f"{path} is {part}, and no LoRA{as_base}")


def _acts(concept: Concept) -> bool:
    """Whether it has a residual, or any change that is another than none."""
    if concept.residual is not None:
        return True
    return any(change.acts for changes in concept.changes.values() for change in changes.values())


def _no_tokens(base: Base) -> dict[Part, Tensor]:
    """(0, layers, dim) for each text encoder."""
    return {part: torch.zeros(0, *shape) for part, shape in base.embedding_shapes.items()}


def _beside(lora: Path, trigger: str) -> Path | None:
    """The textual inversion that lies beside an exported LoRA, unless words call it; told."""
    beside = embedding_beside(lora)
    if not beside.is_file():
        return None
    if trigger:
        log.info("%s lies beside it and is not used: trigger= calls this LoRA", beside)
        return None
    log.info("its embeddings: %s, which lies beside it", beside)
    return beside


def _vectors(path: Path) -> dict[Part, Tensor]:
    content, _ = read_tensors(path)
    vectors = find_vectors(content, path)
    if vectors is None:
        raise InputError(f"{path} is no textual inversion")
    return vectors


def _with_vectors(
    concept: Concept, vectors: Mapping[Part, Tensor], path: Path, base: Base
) -> Concept:
    """The concept with the vectors of a textual inversion in every layer.

    Raises InputError for vectors of another family, or of another width than `base` has.
    """
    shapes = base.embedding_shapes
    first = vectors[Part.TEXT_ENCODER].shape[1]
    family = SDXL if len(vectors) > 1 else FAMILY_OF_WIDTH.get(first)
    if len(vectors) != len(shapes) or (family not in (None, base.family)):
        raise other_family(path, (family or SD1,), base)
    for part, own in vectors.items():
        if own.shape[1] != shapes[part][1]:
            raise InputError(
                f"concept {concept.name}: its vectors for the {part.said} are {own.shape[1]} wide; "
                f"{base.name} needs {shapes[part][1]}"
            )
    layered = {part: in_every_layer(own, shapes[part][0]) for part, own in vectors.items()}
    return concept.with_tokens(tokens_of(concept.name, len(vectors[Part.TEXT_ENCODER])), layered)


def _renamed(concept: Concept, name: str) -> Concept:
    return replace(concept, name=name, token_names=tokens_of(name, len(concept.token_names)))
