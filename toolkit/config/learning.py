"""What stage one can be told, whatever the recipe."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from toolkit.config.limits import LARGEST_SEED, MOST_STEPS, above, at_least, between


@dataclass(frozen=True)
class LearningConfig:
    """What every recipe can be told."""

    recipe: ClassVar[str]
    """What it is called, as `toolkit train recipe=` has it."""

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Images per step and device."""
    seed: int = 0
    """Of everything random in training."""
    checkpoint_every_steps: int = 100
    """How often training can be resumed from."""
    sample_every_steps: int = 200
    """How often a grid of samples is made; 0: never."""
    sample_prompts: tuple[str, ...] = ()
    """What the grid shows; empty: the concept alone."""
    skip_unreadable: bool = False
    """Train on the rest when an image cannot be read."""
    random_crop: bool = False
    """A new square of each image at each step, instead of its middle."""
    mirror: bool = False
    """Also show the images mirrored."""
    buckets: bool = False
    """Train each image in a size of its own shape, instead of cutting all to the base's."""
    max_upscale: float = 2.0
    """By how much buckets may enlarge an image at most; 1: not at all."""
    cache: Literal["memory", "disk"] = "memory"
    """Where encoded images are kept; disk keeps them for the next training too."""
    max_grad_norm: float | None = None
    """Scale gradients down to this norm; null: never."""

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every_steps"):
            between(f"training.{name}", getattr(self, name), 1, MOST_STEPS)
        between("training.batch_size", self.batch_size, 1, 4096)
        at_least("training.sample_every_steps", self.sample_every_steps, 0)
        between("training.seed", self.seed, 0, LARGEST_SEED)
        at_least("training.max_upscale", self.max_upscale, 1)
        if self.max_grad_norm is not None:
            above("training.max_grad_norm", self.max_grad_norm, 0)
