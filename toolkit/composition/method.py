"""What the composer does at each step: the switches and constants of LoRA-Composer."""

from dataclasses import dataclass
from enum import StrEnum


class Preset(StrEnum):
    """Which column of the method the formulas follow where the two differ."""

    PUBLISHED = "published"
    PAPER = "paper"


@dataclass(frozen=True)
class Method:
    """Switches and constants of LoRA-Composer.

    The defaults are the published sampler's. `method_constants` in this module gives those of the
    paper. A constant that is None takes the preset's value.
    """

    name: str = "lora_composer"
    preset: Preset = Preset.PUBLISHED

    injection: bool = True
    """Each concept's LoRA acts inside its own box (eqs. 2, 3)."""
    concept_region_mask: bool = True
    """A box's queries do not attend to another box's keys (self-attention)."""
    enhancement: bool = True
    """Pull each concept's attention into its box: L_ce (eq. 4)."""
    gaussian_weight: bool = True
    """Weight L_ce with a Gaussian over the box."""
    fill_loss: bool = True
    """Push each concept to reach every row and column of its box: L_fill (eqs. 5 to 7)."""
    region_loss: bool = True
    """Keep each box's self-attention inside the box: L_region (eq. 8)."""
    reinitialisation: bool = True
    """Move the noise a concept likes best into its box (eq. 11)."""
    adaptive_stop: bool = True
    """Stop refining when the loss ceases to fall."""

    enhancement_weight: float | None = None
    fill_weight: float | None = None
    region_weight: float | None = None
    step_size: float = 20.0
    """phi at the first step; multiplied by sqrt(s_i), s from 1.0 to 0.5 linearly (published)."""
    top_share: float = 0.2
    """S (and P) as a share of the box's cells."""
    min_guidance_steps: int = 5
    """The first step that may be the last refined one."""
    max_guidance_steps: int = 25
    """The step after which refining stops whatever the loss."""
