"""LoRA Switch and LoRA Composite (Zhong et al. 2024, arXiv 2402.16843), as their code does it.

One prompt for all is encoded once: for Switch by the text encoder with the first LoRA, so the order
matters and the subjects come first; for Composite with all LoRAs added.
"""

from collections.abc import Sequence

from toolkit.backbones import Part
from toolkit.concept import Concept
from toolkit.concept.merge import merged


def turn(step: int, loras: int, period: int) -> int:
    """Which of the LoRAs acts at `step`, counted from 0.

    The released code changes after a step above 0 that the period divides, so the first LoRA has
    one step more than the others the first time; the paper's floor(step / period) has not.
    """
    return max(step - 1, 0) // period % loras


def switched(concepts: Sequence[Concept], strengths: Sequence[float]) -> list[Concept]:
    """For each concept, what acts at its steps: its U-Net half, and the first one's text half.

    Each knows the tokens of all, which `strengths` do not change; its `scale` is 1.
    """
    text_half = _alone(concepts, strengths, 0)
    return [
        text_half.with_changes(text_half.changes | {Part.UNET: own.unet})
        for own in (_alone(concepts, strengths, index) for index in range(len(concepts)))
    ]


def composited(concepts: Sequence[Concept], strengths: Sequence[float]) -> list[Concept]:
    """For each concept, what acts in its passes: its U-Net half, and the text halves of all.

    Each knows the tokens of all, which `strengths` do not change; its `scale` is 1.
    """
    text_half = merged(concepts, strengths)
    return [
        text_half.with_changes(text_half.changes | {Part.UNET: own.unet})
        for own in (_alone(concepts, strengths, index) for index in range(len(concepts)))
    ]


def _alone(concepts: Sequence[Concept], strengths: Sequence[float], index: int) -> Concept:
    """The LoRA of one of `concepts`, with the tokens of all."""
    own = [strength if i == index else 0.0 for i, strength in enumerate(strengths)]
    return merged(concepts, own)
