"""Where the maps act that training puts a LoRA on, as ranks and learning rates are set for them."""

from dataclasses import dataclass
from enum import StrEnum

from torch import nn


class Place(StrEnum):
    """What a trained map belongs to."""

    TEXT_ENCODER = "text_encoder"
    SELF_ATTENTION = "self_attention"
    CROSS_ATTENTION = "cross_attention"


@dataclass(frozen=True)
class TrainedMap:
    """The two halves of the LoRA on one map: down is (rank, in), up is (out, rank)."""

    place: Place
    down: nn.Parameter
    up: nn.Parameter
