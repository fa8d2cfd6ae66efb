"""Which images training does not see, so that the loss on them says whether it still learns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from toolkit.text.wording import counted, listed
from toolkit.training.concept_folder import ConceptImage

FEWEST = 8
"""With fewer images than this each is needed for training."""


@dataclass(frozen=True)
class Split:
    """The images of a concept, divided.

    held_out: empty where there are too few; then unseen cuts of the trained ones stand in for them.
    """

    trained: tuple[ConceptImage, ...]
    held_out: tuple[ConceptImage, ...]

    def told(self) -> str:
        """What is said of it before training."""
        if self.held_out:
            names = listed([image.path.name for image in self.held_out])
            return (
                f"validation: {counted(len(self.held_out), 'image')} of "
                f"{len(self.held_out) + len(self.trained)} held out ({names})"
            )
        return (
            f"validation: {counted(len(self.trained), 'image')} are too few to hold any out "
            f"(fewer than {FEWEST}): the loss is measured on mirrored cuts of them instead, which "
            "tells less"
        )


def split(images: Sequence[ConceptImage], share: float, seed: int) -> Split:
    """Hold out a share of `images`, at least one; none where there are fewer than FEWEST."""
    if len(images) < FEWEST:
        return Split(tuple(images), ())
    number = max(round(share * len(images)), 1)
    chosen = set(np.random.default_rng(seed).permutation(len(images))[:number].tolist())
    return Split(
        tuple(image for index, image in enumerate(images) if index not in chosen),
        tuple(images[index] for index in sorted(chosen)),
    )
