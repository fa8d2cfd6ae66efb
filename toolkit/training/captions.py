"""What an image's caption says at one step: one of its lines, its tags in an order, or nothing."""

from dataclasses import dataclass, replace

import torch

from toolkit.training.concept_folder import ConceptImage


@dataclass(frozen=True)
class Captions:
    """How captions vary from step to step.

    dropout: how often a caption is left out, 0 to 1. shuffle_tags: what stands between commas
    comes in another order each time, but for the first `keep_tags`.
    """

    dropout: float = 0.0
    shuffle_tags: bool = False
    keep_tags: int = 1

    def at(self, image: ConceptImage, generator: torch.Generator) -> str:
        """The caption of one view of an image."""
        dropped, which = torch.rand(2, generator=generator).tolist()
        lines = image.lines or (image.caption,)
        caption = lines[int(which * len(lines))]
        if self.shuffle_tags:
            tags = [tag.strip() for tag in caption.split(",")]
            kept, others = tags[: self.keep_tags], tags[self.keep_tags :]
            shuffled = torch.randperm(len(others), generator=generator).tolist()
            caption = ", ".join([*kept, *(others[place] for place in shuffled)])
        return "" if dropped < self.dropout else caption


def of_class_word(image: ConceptImage, name: str, class_word: str) -> ConceptImage:
    """The image with nothing in its caption but the concept and what it is."""
    return replace(image, caption=f"<{name}> {class_word}", lines=())
