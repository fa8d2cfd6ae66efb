"""LoRA Switch (Zhong et al. 2024, arXiv 2402.16843), as its released code does it.

One LoRA at a time acts on the U-Net, each for `period` steps. One prompt for all is encoded once,
by the text encoder with the first LoRA: so the order matters, and the subjects come first.
"""

from collections.abc import Sequence
from dataclasses import replace

from toolkit.concept import Concept
from toolkit.concept.merge import merged

PERIOD = 5
STRENGTH = 0.8
"""Of every low-rank product, in both networks."""


def turn(step: int, loras: int, period: int = PERIOD) -> int:
    """Which of the LoRAs acts at `step`, counted from 0.

    The released code changes after a step above 0 that the period divides, so the first LoRA has
    one step more than the others the first time; the paper's floor(step / period) has not.
    """
    return max(step - 1, 0) // period % loras


def switched(concepts: Sequence[Concept], strength: float = STRENGTH) -> list[Concept]:
    """For each concept, what acts at its steps: its U-Net half, and the first one's text half.

    Each knows the tokens of all, which `strength` does not change; its `scale` is 1.
    """
    text_half = alone(concepts, 0, strength).text_encoder
    return [
        replace(alone(concepts, index, strength), text_encoder=text_half)
        for index in range(len(concepts))
    ]


def alone(concepts: Sequence[Concept], index: int, strength: float) -> Concept:
    """The LoRA of one of `concepts`, with the tokens of all."""
    return merged(concepts, [strength if i == index else 0.0 for i in range(len(concepts))])
