"""What the training of Cones 2 can be told."""

from dataclasses import dataclass
from typing import ClassVar

from toolkit.concept.stored import CONES2
from toolkit.config.learning import LearningConfig
from toolkit.config.limits import at_least


@dataclass(frozen=True)
class Cones2Config(LearningConfig):
    """What Cones 2 adds to its class word (arXiv 2305.19327). The defaults are its authors'."""

    recipe: ClassVar[str] = CONES2

    steps: int = 4000
    batch_size: int = 1
    learning_rate: float = 5e-6
    """Of the text encoder, all of which trains."""
    weight_decay: float = 1e-2
    """AdamW's."""
    start_weight: float = 1e-2
    """Of holding the encoding of the text's beginning where it was."""
    rest_weight: float = 1e-3
    """Of holding the encoding behind the class word where it was."""
    max_grad_norm: float | None = 1.0
    checkpoint_every_steps: int = 500
    sample_every_steps: int = 1000
    random_crop: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learning_rate", "weight_decay", "start_weight", "rest_weight"):
            at_least(f"training.{name}", getattr(self, name), 0)
