"""What the composer does at each step: the switches and constants of LoRA-Composer."""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cached_property


class Preset(StrEnum):
    """Whose formulas and constants: the released sampler's, the paper's, or ours beyond both."""

    PUBLISHED = "published"
    PAPER = "paper"
    BALANCED = "balanced"


class Sampler(StrEnum):
    """Who makes the picture: LoRA-Composer, or one of the rivals it is measured against."""

    LORA_COMPOSER = "lora_composer"
    PROMPT_ONLY = "prompt_only"
    MERGE = "merge"
    LORA_SWITCH = "lora_switch"
    LORA_COMPOSITE = "lora_composite"
    REGIONAL_PROMPT = "regional_prompt"
    REGIONAL_TOKENS = "regional_tokens"
    EMPTY_SCENE = "empty_scene"


@dataclass(frozen=True)
class Constants:
    """What a preset decides; `Method` has the meaning of each."""

    self_attention_injection: bool = False
    query_injection: bool = False
    closed_share: float = 0.0
    word_bias: float = 0.0
    subject_bias: float = 0.0
    enhancement_weight: float = 8.0
    fill_weight: float = 2.0
    region_weight: float = 10.0
    step_size: float = 20.0
    guidance_share: float = 1.0
    min_guidance_steps: int = 5
    max_guidance_steps: int | None = 25
    update_in_regions: bool = False
    update_limit: float = 0.0
    keep_statistics: bool = False
    pace_per_region: bool = False
    damping: bool = False


_CONSTANTS = {
    Preset.PUBLISHED: Constants(),
    Preset.PAPER: Constants(
        enhancement_weight=1.0,
        fill_weight=0.25,
        region_weight=0.8,
        min_guidance_steps=0,
        max_guidance_steps=None,
    ),
    Preset.BALANCED: Constants(
        self_attention_injection=True,
        query_injection=True,
        closed_share=0.4,
        word_bias=0.5,
        subject_bias=-3.0,
        guidance_share=0.36,
        min_guidance_steps=0,
        max_guidance_steps=None,
        update_in_regions=True,
        update_limit=0.3,
        keep_statistics=True,
        pace_per_region=True,
        damping=True,
    ),
}


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
    top_share: float = 0.2
    """S and P as a share of the box's cells."""

    self_attention_injection: bool | None = None
    """A concept's LoRA acts in its box in self-attention too (q, k, v, out): balanced."""
    query_injection: bool | None = None
    """A concept's LoRA acts in its box on cross-attention's queries too: balanced."""
    closed_share: float | None = None
    """In this first share of the steps boxes do not see the background either."""
    word_bias: float | None = None
    """Added in a box to the attention's scores of the concept's own words: 0; 1 in method=fast."""
    subject_bias: float | None = None
    """Added outside the boxes to the attention's scores of the subjects' class words."""

    enhancement_weight: float | None = None
    """8 published, 1 in the paper, 8 balanced."""
    fill_weight: float | None = None
    """2 published, 0.25 in the paper, 2 balanced."""
    region_weight: float | None = None
    """10 published, 0.8 in the paper, 10 balanced."""
    step_size: float | None = None
    """phi at the first step (eq. 10): 20."""
    guidance_share: float | None = None
    """Refine in this first share of the steps at most: 1; 0.36 balanced."""
    min_guidance_steps: int | None = None
    """The first step that may be the last refined one: 5 published, 0 in the paper, balanced."""
    max_guidance_steps: int | None = None
    """The step after whose update refining ends whatever the loss: 25 published, else none."""

    update_in_regions: bool | None = None
    """Move no cell outside the boxes: balanced."""
    update_limit: float | None = None
    """The farthest a cell moves in one update, in the latents' deviation; 0: any. 0.3 balanced."""
    keep_statistics: bool | None = None
    """What is moved keeps the mean and deviation that it had: balanced."""
    pace_per_region: bool | None = None
    """Each box has its own weight and stop, and the worst-off the largest: balanced."""
    damping: bool | None = None
    """A loss that rises halves the next update instead of ending them: balanced."""

    @property
    def refines(self) -> bool:
        """Whether any constraint moves the latents."""
        return self.enhancement or self.fill_loss or self.region_loss

    @cached_property
    def constants(self) -> Constants:
        """The preset's, with those in their place that this method gives itself."""
        given = {field.name: getattr(self, field.name) for field in fields(Constants)}
        kept = {name: value for name, value in given.items() if value is not None}
        return replace(_CONSTANTS[self.preset], **kept)

    @property
    def weights(self) -> tuple[float, float, float]:
        """What L_ce, L_fill and L_region are multiplied with in the loss (eq. 9)."""
        constants = self.constants
        return constants.enhancement_weight, constants.fill_weight, constants.region_weight

    def step_size_at(self, step: int, steps: int) -> float:
        """phi_t (eq. 10): decays from `step_size` along a line in the paper, else by its root."""
        line = 1.0 - 0.5 * step / max(steps - 1, 1)
        return self.constants.step_size * (line if self.preset is Preset.PAPER else line**0.5)

    def rises(self, step: int, loss: float, last_loss: float) -> bool:
        """Whether a loss that is above the last one's is heeded at `step`."""
        return self.adaptive_stop and step >= self.constants.min_guidance_steps and loss > last_loss

    def ends_at(self, step: int, steps: int) -> bool:
        """Whether the update at `step` of `steps` is the last, whatever the loss."""
        end = self.constants.max_guidance_steps
        spent = step + 1 >= self.constants.guidance_share * steps
        return spent or (end is not None and step >= end)
