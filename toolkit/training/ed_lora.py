"""An ED-LoRA (Mix-of-Show, arXiv 2305.18292): what its tokens start as, and what it became."""

from collections.abc import Mapping

import torch
from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.concept import Concept
from toolkit.errors import InputError


def token_names(name: str) -> tuple[str, str]:
    """V_rand and V_class of a concept: <dog1>, <dog2>."""
    return f"<{name}1>", f"<{name}2>"


def initial_embeddings(
    base: Base, class_word: str, generator: torch.Generator
) -> dict[Part, Tensor]:
    """For each text encoder (2, layers, width) in float32: V_rand random, V_class the class word's.

    V_class is the mean of its tokens.
    V_rand is as wide as the base's own embeddings are (a standard deviation of about 0.014 in
    Stable Diffusion, which is Mix-of-Show's constant). Both are the same in every layer.
    Raises InputError when the class word has no tokens.
    """
    ids = base.token_ids(class_word)
    if not ids:
        raise InputError("concept.class_word is empty: say what it is, as dog")
    found = {}
    for part, table in base.token_tables.items():
        drawn = torch.randn(table.shape[1], generator=generator).to(table.device) * table.std()
        start = torch.stack([drawn, table[ids].mean(dim=0)])
        found[part] = start[:, None].repeat(1, base.transformers, 1)
    return found


def export_concept(
    base: Base,
    name: str,
    class_word: str,
    embeddings: Mapping[Part, Tensor],
    training: Mapping[str, str],
) -> Concept:
    """What was learned so far as a Concept, on the CPU. The LoRA must still be injected."""
    cpu, kind = torch.device("cpu"), torch.float32
    changes = {
        part: {path: pair.to(cpu, kind) for path, pair in pairs.items()}
        for part, pairs in base.learned_changes().items()
    }
    learned = {part: own.detach().to(cpu, kind).clone() for part, own in embeddings.items()}
    return Concept(
        name=name,
        embeddings=learned[Part.TEXT_ENCODER],
        embeddings_2=learned.get(Part.TEXT_ENCODER_2),
        token_names=token_names(name),
        unet=changes[Part.UNET],
        text_encoder=changes[Part.TEXT_ENCODER],
        text_encoder_2=changes.get(Part.TEXT_ENCODER_2, {}),
        class_word=class_word,
        base_name=base.name,
        architecture=base.architecture,
        weights=base.weights,
        training=training,
    )
