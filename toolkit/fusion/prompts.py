"""The two prompts that show each concept to the fusion, encoded without padding."""

from dataclasses import replace

import torch

from toolkit.backbones import Base, Encodings, TokenisedPrompt
from toolkit.concept import Concept
from toolkit.errors import InputError

TEMPLATES = ("photo of a {}", "{}")


def shown(base: Base, concept: Concept) -> list[TokenisedPrompt]:
    """`concept` in each of TEMPLATES, padded to the text encoder's window.

    Raises InputError when nothing calls the concept, or what calls it does not fit.
    """
    if not concept.call:
        raise InputError(f"concept {concept.name} has neither tokens nor trigger words to call it")
    prompts = [
        base.tokenise(template.format(concept.call), concept.token_names) for template in TEMPLATES
    ]
    for prompt in prompts:
        if prompt.lost:
            raise InputError(
                f"concept {concept.name}: what calls it is too long for the text encoder; lost: "
                f"{prompt.lost!r}"
            )
    return prompts


def unpadded(prompt: TokenisedPrompt) -> TokenisedPrompt:
    """`prompt` up to its end token."""
    return replace(prompt, ids=prompt.ids[: prompt.end + 1])


def length_of(base: Base, concept: Concept) -> int:
    """How many places what calls `concept` takes in a prompt."""
    return shown(base, concept)[-1].end - 1  # without the begin token


@torch.no_grad()
def encode_versions(base: Base, concept: Concept, prompt: TokenisedPrompt) -> Encodings:
    """`prompt` as each layer of the U-Net hears it."""
    embeddings = {part: own.to(base.device) for part, own in concept.token_embeddings.items()}
    return base.encode_prompts([prompt], embeddings)
