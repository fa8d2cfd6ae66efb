"""What the networks that a concept changes are called."""

from enum import StrEnum


class Part(StrEnum):
    """Which network a change belongs to."""

    UNET = "unet"
    TEXT_ENCODER = "text_encoder"
