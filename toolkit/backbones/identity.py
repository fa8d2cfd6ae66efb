"""Which base it is: its name, and fingerprints of what it is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """What a result records of the base that made it.

    architecture: equal for bases whose LoRAs have the same shapes. weights: of the text encoder and
    the denoiser. autoencoder: of the autoencoder's weights; empty without one.
    """

    name: str
    architecture: str
    weights: str
    autoencoder: str
