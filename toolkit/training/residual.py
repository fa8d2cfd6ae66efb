"""What a trained text encoder says otherwise of a word than the base's (Cones 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toolkit.backbones import Base
from toolkit.errors import InputError

TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)
"""The texts that the published code takes the mean over."""


def moved(difference: Tensor, word: Sequence[int]) -> tuple[Tensor, Tensor]:
    """How far an encoding moved at the text's beginning, and at all places behind the word.

    difference: (places, dim). word: the places of the class word's tokens, right behind the first.
    Returns two Frobenius norms, unsquared; their gradient at no difference is 0.
    """
    start, rest = difference[: word[0]], difference[word[-1] + 1 :]
    return torch.linalg.vector_norm(start), torch.linalg.vector_norm(rest)


@torch.no_grad()
def residual(base: Base, tuned: nn.Module, word: str) -> Tensor:
    """(tokens of the word, dim) in float32: the mean difference at the word, over `TEMPLATES`.

    Raises InputError for a word that a text does not say as it stands.
    """
    differences = []
    for template in TEMPLATES:
        prompt = base.tokenise(template.format(word))
        mentions = base.mentions(word, prompt)
        if not mentions:
            raise InputError(f"class word {word!r}: it is not read as a word in {template!r}")
        places = list(mentions[-1])
        after, before = base.encode_by(tuned, prompt), base.encode_by(None, prompt)
        differences.append(after[places].float() - before[places].float())
    return torch.stack(differences).mean(dim=0)
