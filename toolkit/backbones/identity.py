"""Which base it is: its name, and fingerprints of what it is made of."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Identity:
    """What a result records of the base that made it.

    architecture: equal for bases whose LoRAs have the same shapes. weights: of the text encoder and
    the denoiser. autoencoder: of the autoencoder's weights; empty without one. overrides: what was
    set of how they are read; empty where they are read as their files say.
    """

    name: str
    architecture: str
    weights: str
    autoencoder: str
    overrides: str = ""

    @property
    def record(self) -> dict[str, str]:
        """By name, as results keep it; bases without overrides have none, as ever."""
        return {name: value for name, value in asdict(self).items() if value or name != "overrides"}


def overrides_of(prediction_type: str | None, guidance_layers: Sequence[int] | None) -> str:
    """What a person set of how a base is read, in words; empty for nothing."""
    said = []
    if prediction_type is not None:
        said.append(f"prediction_type={prediction_type}")
    if guidance_layers is not None:
        said.append(f"guidance_layers={sorted(set(guidance_layers))}")
    return " ".join(said)
