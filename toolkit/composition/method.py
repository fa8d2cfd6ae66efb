"""What the composer does at each step: the switches and constants of LoRA-Composer."""

from dataclasses import dataclass
from enum import StrEnum


class Preset(StrEnum):
    """Which of the two the formulas follow, where the released sampler and the paper differ."""

    PUBLISHED = "published"
    PAPER = "paper"


class Sampler(StrEnum):
    """Who makes the picture: LoRA-Composer, or one of the rivals it is measured against."""

    LORA_COMPOSER = "lora_composer"
    PROMPT_ONLY = "prompt_only"
    MERGE = "merge"
    LORA_SWITCH = "lora_switch"
    LORA_COMPOSITE = "lora_composite"
    REGIONAL_PROMPT = "regional_prompt"
    REGIONAL_TOKENS = "regional_tokens"


@dataclass(frozen=True)
class Method:
    """Switches and constants of LoRA-Composer. A constant that is None takes its preset's value.

    The switches and constants have no effect on a rival (`sampler`).
    """

    name: str = "lora_composer"
    sampler: Sampler = Sampler.LORA_COMPOSER
    """Who makes the picture; the keys below are LoRA-Composer's."""
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
    """Move the noise a concept responds to most into its box (eq. 11)."""
    adaptive_stop: bool = True
    """Stop refining when the loss ceases to fall."""

    enhancement_weight: float | None = None
    """8 published, 1 in the paper."""
    fill_weight: float | None = None
    """2 published, 0.25 in the paper."""
    region_weight: float | None = None
    """10 published, 0.8 in the paper."""
    step_size: float = 20.0
    """phi at the first step (eq. 10)."""
    top_share: float = 0.2
    """S and P as a share of the box's cells."""
    min_guidance_steps: int | None = None
    """The first step that may be the last refined one: 5 published, 0 in the paper."""
    max_guidance_steps: int | None = None
    """The step after whose update refining ends whatever the loss: 25 published, none in paper."""

    @property
    def refines(self) -> bool:
        """Whether any constraint moves the latents."""
        return self.enhancement or self.fill_loss or self.region_loss

    @property
    def weights(self) -> tuple[float, float, float]:
        """What L_ce, L_fill and L_region are multiplied with in the loss (eq. 9)."""
        preset = (8.0, 2.0, 10.0) if self.preset is Preset.PUBLISHED else (1.0, 0.25, 0.8)
        given = (self.enhancement_weight, self.fill_weight, self.region_weight)
        ce, fill, region = (
            default if value is None else value
            for value, default in zip(given, preset, strict=True)
        )
        return ce, fill, region

    def step_size_at(self, step: int, steps: int) -> float:
        """phi_t (eq. 10): decays from `step_size`, by the square root of a line when published."""
        line = 1.0 - 0.5 * step / max(steps - 1, 1)
        return self.step_size * (line**0.5 if self.preset is Preset.PUBLISHED else line)

    def is_last_update(self, step: int, loss: float, last_loss: float) -> bool:
        """Whether the update at `step` is the last; `last_loss` is that of the step before."""
        published = self.preset is Preset.PUBLISHED
        first = self.min_guidance_steps
        first = (5 if published else 0) if first is None else first
        end = self.max_guidance_steps
        end = (25 if published else None) if end is None else end
        rises = self.adaptive_stop and step >= first and loss > last_loss
        return rises or (end is not None and step >= end)
