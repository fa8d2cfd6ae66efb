"""Concepts in the formats that other programs read, and what those cannot hold."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from toolkit.backbones import Part
from toolkit.backbones.families import SD1, SD2, SDXL
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange
from toolkit.backbones.unet.names import (
    is_convolution,
    kohya_name,
    module_name,
    stored_name,
)
from toolkit.concept.concept import Concept
from toolkit.concept.formats.family import FAMILY_OF_WIDTH
from toolkit.concept.formats.tensors_of import HasNoPlace, for_diffusers, for_kohya
from toolkit.concept.formats.textual_inversion import CLIP_NAMES, embedding_beside
from toolkit.errors import InputError
from toolkit.files import whole_file

_MIX_OF_SHOW = (Part.UNET, Part.TEXT_ENCODER)
"""The parts of a base that Mix-of-Show knows."""

_KOHYA_FAMILIES = {SD1: "sd_v1", SD2: "sd_v2", SDXL: "sdxl_base_v1-0"}
"""What kohya's tools call each family."""


@dataclass(frozen=True)
class Written:
    """What an export left: its files, and what the format could not hold, in words."""

    files: tuple[Path, ...]
    lost: str


def write_foreign(concept: Concept, format: str, path: Path) -> Written:
    """Write `concept` in a format to `path`; the embeddings go to a file of their own beside it.

    diffusers: a LoRA or DoRA; kohya: every kind of change, by LyCORIS's names. With a textual
    inversion of one vector for each token, its mean over the layers. mix_of_show: everything that
    an ED-LoRA holds, in one `.pth`.
    Raises InputError for a concept that none of them can hold, and for mix_of_show and a concept of
    a base of two text encoders.
    """
    if concept.residual is not None:
        raise InputError(
            f"{concept.name} is a Cones 2 concept: what it adds behind the text encoder has no "
            "place in other programs' formats; train it without recipe=cones2 to export it"
        )
    return _WRITERS[format](concept, path)


def _write_diffusers(concept: Concept, path: Path) -> Written:
    tensors: dict[str, Tensor] = {}
    for part, map_path, change in _changes_of(concept):
        shaped = partial(_shaped, path=map_path, concept=concept)
        try:
            own = for_diffusers(change, shaped)
        except HasNoPlace as error:
            raise InputError(
                f"concept {concept.name} has {error} ({map_path}), which this format has no place "
                "for: take format=kohya"
            ) from error
        tensors |= {f"{stored_name(part, map_path)}.{name}": one for name, one in own.items()}
    return _with_inversion(concept, path, _saved(tensors, path, {"format": "pt"}))


def _write_kohya(concept: Concept, path: Path) -> Written:
    tensors: dict[str, Tensor] = {}
    for part, map_path, change in _changes_of(concept):
        module = kohya_name(part, map_path, concept.embeddings_2 is not None)
        try:
            own = for_kohya(change, partial(_shaped, path=map_path, concept=concept))
        except HasNoPlace as error:
            raise InputError(
                f"concept {concept.name} has {error} ({map_path}), which this format has no place "
                "for, as no other has"
            ) from error
        tensors |= {f"{module}.{name}": one for name, one in own.items()}
    plain = all(isinstance(change, LowRank) for _, _, change in _changes_of(concept))
    about = {
        "ss_network_module": "networks.lora" if plain else "lycoris.kohya",
        "ss_network_dim": str(concept.rank),
        "ss_network_alpha": str(concept.rank),
        "ss_tag_frequency": json.dumps({concept.name: {concept.class_word or concept.name: 1}}),
    }
    family = _family(concept)
    if family is not None:
        about["ss_base_model_version"] = _KOHYA_FAMILIES[family]
    return _with_inversion(concept, path, _saved(tensors, path, about))


def _write_mix_of_show(concept: Concept, path: Path) -> Written:
    def halves(part: Part) -> dict[str, Tensor]:
        own = {}
        for path, change in concept.changes[part].items():
            if not isinstance(change, LowRank) or change.down.ndim > 2:
                raise InputError(
                    f"concept {concept.name} changes {path} by more than a LoRA of a linear map, "
                    "which mix_of_show has no place for: take format=kohya"
                )
            for side, tensor in (("down", change.down), ("up", change.up * concept.scale)):
                own[f"{module_name(part, path)}.lora_{side}.weight"] = tensor.float().contiguous()
        return own

    if concept.embeddings_2 is not None:
        raise InputError(
            f"concept {concept.name} is for {SDXL}, which mix_of_show has no place for: take "
            "format=diffusers or kohya"
        )
    content = {
        "new_concept_embedding": {
            name: vectors.float().clone()
            for name, vectors in zip(concept.token_names, concept.embeddings, strict=True)
        },
        **{str(part): halves(part) for part in _MIX_OF_SHOW},
    }
    with whole_file(path) as temporary:
        torch.save({"params": content}, temporary)
    return Written((path,), "" if concept.token_names else "the trigger words")


def _changes_of(concept: Concept) -> list[tuple[Part, str, MapChange]]:
    """Every change with its part and path, scaled as the concept says."""
    return [
        (part, path, change if concept.scale == 1 else change.scaled(concept.scale))
        for part, changes in concept.changes.items()
        for path, change in changes.items()
    ]


def _with_inversion(concept: Concept, path: Path, lora: Path) -> Written:
    """Beside the LoRA, the tokens as a textual inversion that is the same in every layer.

    For one text encoder its only tensor is called <name>, which diffusers then takes for the word
    that calls it; kohya's tools, A1111 and ComfyUI take the first tensor, and call it by the file's
    name. For two they are `clip_l` and `clip_g`.
    """
    if not concept.token_names:
        return Written((lora,), "")
    inversion = embedding_beside(path)
    means = {part: own.float().mean(dim=1) for part, own in concept.token_embeddings.items()}
    named = {CLIP_NAMES[part]: mean for part, mean in means.items()}
    if len(named) == 1:
        named = {concept.placeholder: means[Part.TEXT_ENCODER]}
    _saved(named, inversion, {"tokens": " ".join(concept.token_names)})
    whole = torch.cat([own.float().flatten() for own in concept.token_embeddings.values()])
    spread = torch.cat(
        [
            (own.float() - means[part][:, None]).flatten()
            for part, own in concept.token_embeddings.items()
        ]
    )
    share = float(spread.norm() / whole.norm())
    lost = (
        f"the format has one embedding for all {concept.embeddings.shape[1]} layers, where this "
        f"concept has one for each: their mean was written ({share:.0%} of their norm is lost)"
        if share > 1e-6
        else ""
    )
    return Written((lora, inversion), lost)


def _family(concept: Concept) -> str | None:
    """The family that it is for, as far as its text encoders' widths tell."""
    if concept.embeddings_2 is not None:
        return SDXL
    return FAMILY_OF_WIDTH.get(concept.embeddings.shape[2])


def _shaped(half: Tensor, path: str, concept: Concept) -> Tensor:
    """Half of a LoRA as the base has the map, which may be a convolution of 1 x 1."""
    pointwise = is_convolution(path, _family(concept) in (SD2, SDXL))
    return half[:, :, None, None] if pointwise and half.ndim == 2 else half


def _saved(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> Path:
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as temporary:
        save_file(stored, temporary, dict(metadata))
    return path


_WRITERS: Mapping[str, Callable[[Concept, Path], Written]] = {
    "diffusers": _write_diffusers,
    "kohya": _write_kohya,
    "mix_of_show": _write_mix_of_show,
}
