"""The two prompts that show each concept to the fusion, encoded without padding."""

from dataclasses import replace

import torch
from torch import Tensor

from toolkit.backbones import Base, TokenisedPrompt
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


def unpadded(base: Base, prompt: TokenisedPrompt) -> TokenisedPrompt:
    """`prompt` up to its end token, whose id a concept's tokens may have as well."""
    taken = {place for place, _ in prompt.concept_tokens}
    ends = (i for i, own in enumerate(prompt.ids) if own == base.tokenizer.eos_token_id)
    end = next(place for place in ends if place not in taken)
    return replace(prompt, ids=prompt.ids[: end + 1])


def length_of(base: Base, concept: Concept) -> int:
    """How many places what calls `concept` takes in a prompt."""
    return len(unpadded(base, shown(base, concept)[-1]).ids) - 2  # begin and end tokens


@torch.no_grad()
def encode_versions(base: Base, concept: Concept, prompt: TokenisedPrompt) -> Tensor:
    """(layers, places, dim): `prompt` as each layer of the U-Net hears it."""
    return base.encode_prompts([prompt], concept.embeddings.to(base.device))[0]
