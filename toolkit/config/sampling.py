"""How pictures are denoised, and what is done with them then."""

from dataclasses import dataclass

from toolkit.config.limits import between
from toolkit.second.plan import SecondPasses


@dataclass(frozen=True)
class SamplingConfig:
    """How a picture is denoised."""

    steps: int = 50
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Classifier-free guidance."""

    def __post_init__(self) -> None:
        between("sampling.steps", self.steps, 1, 1000)


@dataclass(frozen=True)
class ComposingConfig(SecondPasses, SamplingConfig):
    """How a picture is composed, and which second passes it gets."""

    def __post_init__(self) -> None:
        SamplingConfig.__post_init__(self)
        SecondPasses.__post_init__(self)
