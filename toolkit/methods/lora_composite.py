"""LoRA Composite (Zhong et al. 2024, arXiv 2402.16843), as its released code does it.

At every step the U-Net runs once under each LoRA, and the predictions are averaged, negative and
positive ones alike. One prompt for all is encoded once, by the text encoder with all LoRAs added.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from toolkit.concept import Concept
from toolkit.concept.merge import merged
from toolkit.methods.lora_switch import STRENGTH, alone


def composited(concepts: Sequence[Concept], strength: float = STRENGTH) -> list[Concept]:
    """For each concept, what acts in its passes: its U-Net half, and the text halves of all.

    Each knows the tokens of all, which `strength` does not change; its `scale` is 1.
    """
    text_half = merged(concepts, [strength] * len(concepts)).text_encoder
    return [
        replace(alone(concepts, index, strength), text_encoder=text_half)
        for index in range(len(concepts))
    ]


def composite(predictions: Tensor) -> Tensor:
    """(loras, channels, h, w) guided predictions to their mean, (1, channels, h, w).

    Guidance is linear, so the mean of guided predictions is the guided mean that is published.
    """
    return predictions.mean(dim=0, keepdim=True)
