"""Words of a prompt that are read as concepts: where they stand, and what is added to them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from toolkit.backbones.prompts import Prompt
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.encoding import EncodedPrompt, places_of_words
from toolkit.backbones.unet.text import TokenisedPrompt
from toolkit.errors import InputError, shortened


def subject_places(prompt: Prompt, tokens: TokenisedPrompt, base: Base) -> list[tuple[int, ...]]:
    """Where a prompt says each of its subjects: the nth of one word is its nth mention.

    Raises InputError where the prompt has too few, or a word is not the one that was learned.
    """
    met: Counter[str] = Counter()
    found = []
    for subject in prompt.subjects:
        mentions = places_of_words(subject.word, tokens, base)
        if len(mentions) <= met[subject.word]:
            raise InputError(
                f"prompt {shortened(prompt.text)!r} does not say {subject.word!r} often enough: "
                "once for each subject"
            )
        own = mentions[met[subject.word]]
        if len(own) != len(subject.residual):
            raise InputError(
                f"{subject.word!r} is read as {len(own)} tokens, and its concept was learned at "
                f"{len(subject.residual)}: give the class word that it was trained with"
            )
        found.append(own)
        met[subject.word] += 1
    return found


def with_residuals(
    encoded: EncodedPrompt, prompt: Prompt, places: Sequence[tuple[int, ...]]
) -> EncodedPrompt:
    """The same, with each subject's residual added at its places."""
    if not prompt.subjects:
        return encoded
    positive = encoded.positive.clone()
    for subject, own in zip(prompt.subjects, places, strict=True):
        positive[:, list(own)] += subject.residual.to(positive)
    return replace(encoded, positive=positive)
