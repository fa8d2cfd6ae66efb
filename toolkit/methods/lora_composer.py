"""LoRA-Composer: as released, as in its paper (arXiv 2403.11627), and beyond both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from toolkit.errors import InputError
from toolkit.methods.method import ADDED, Method, Process

if TYPE_CHECKING:
    from toolkit.backbones import Backbone
    from toolkit.backbones.prompts import Regional
    from toolkit.concept import Concept
    from toolkit.layout.layout import Layout
    from toolkit.methods.method import Prepared


class Preset(StrEnum):
    """Whose formulas and constants: the released sampler's, the paper's, or ours beyond both."""

    PUBLISHED = "published"
    PAPER = "paper"
    BALANCED = "balanced"


class Fill(StrEnum):
    """L_fill: of the masked map over whole axes (released), or as eqs. 5 to 7 write it."""

    MASKED = "masked"
    EQUATIONS = "equations"


class Decay(StrEnum):
    """How phi of eq. 10 falls over the steps: by the root of a line (released), or along it."""

    ROOT = "root"
    LINE = "line"


@dataclass(frozen=True)
class LoraComposer(Method):
    """Switches and constants; the defaults are the released sampler's."""

    takes_schedules: ClassVar[bool] = True
    keeps_regions: ClassVar[bool] = True

    name: str = "lora_composer"

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

    self_attention_injection: bool = False
    """A concept's LoRA acts in its box in self-attention too (q, k, v, out): balanced."""
    query_injection: bool = False
    """A concept's LoRA acts in its box on cross-attention's queries too: balanced."""
    closed_share: float = 0.0
    """In this first share of the steps boxes do not see the background either."""
    word_bias: float = 0.0
    """Added in a box to the attention's scores of the concept's own words: 0; 1 in method=fast."""
    subject_bias: float = 0.0
    """Added outside the boxes to the attention's scores of the subjects' class words."""

    enhancement_weight: float = 8.0
    """8 published, 1 in the paper, 8 balanced."""
    fill_weight: float = 2.0
    """2 published, 0.25 in the paper, 2 balanced."""
    region_weight: float = 10.0
    """10 published, 0.8 in the paper, 10 balanced."""
    step_size: float = 20.0
    """phi at the first step (eq. 10): 20."""
    guidance_share: float = 1.0
    """Refine in this first share of the steps at most: 1; 0.36 balanced."""
    min_guidance_steps: int = 5
    """The first step that may be the last refined one: 5 published, 0 in the paper, balanced."""
    max_guidance_steps: int | None = 25
    """The step after whose update refining ends whatever the loss: 25 published, else none."""

    update_in_regions: bool = False
    """Move no cell outside the boxes: balanced."""
    update_limit: float = 0.0
    """The farthest a cell moves in one update, in the latents' deviation; 0: any. 0.3 balanced."""
    keep_statistics: bool = False
    """What is moved keeps the mean and deviation that it had: balanced."""
    pace_per_region: bool = False
    """Each box has its own weight and stop, and the worst-off the largest: balanced."""
    damping: bool = False
    """A loss that rises halves the next update instead of ending them: balanced."""

    smoothing: bool = True
    """Blur the attention maps with a 3 x 3 kernel before the losses; not in the paper."""
    fill_formula: Fill = Fill.MASKED
    """masked as released, or equations as the paper writes it."""
    mean_over_tokens: bool = False
    """A region's loss is its tokens' mean, as in the paper; else their sum."""
    step_decay: Decay = Decay.ROOT
    """How phi falls: by the root of a line as released, or along the line as in the paper."""
    standard_start: bool = False
    """Re-initialised noise becomes a standard Gaussian (paper), or keeps its own statistics."""
    refine_first: bool = False
    """One update before re-initialisation, as in the paper."""

    mask_refinement: bool = field(default=False, metadata=ADDED)
    """After the guided steps a region gives way to its subject's outline in the attention maps."""
    isolation_until: float = field(default=1.0, metadata=ADDED)
    """After this share of the steps regions see each other: 1, which is never."""

    def __post_init__(self) -> None:
        if self.mask_refinement and not self.refines:
            raise InputError(
                "mask_refinement takes the outline from the maps of the guided steps, and this "
                "method has none: switch one of enhancement, fill_loss and region_loss on",
                "mask_refinement",
            )
        if not 0 <= self.isolation_until <= 1:
            raise InputError(
                f"isolation_until={self.isolation_until}: expected a share of the steps, 0 to 1",
                "isolation_until",
            )

    @property
    def refines(self) -> bool:
        """Whether any constraint moves the latents."""
        return self.enhancement or self.fill_loss or self.region_loss

    @property
    def regional(self) -> "Regional":
        """How its regions attend."""
        from toolkit.backbones.prompts import Regional

        return Regional(
            injection=self.injection,
            isolation=self.concept_region_mask,
            self_attention=self.self_attention_injection,
            queries=self.query_injection,
            word_bias=self.word_bias,
            subject_bias=self.subject_bias,
        )

    def left_out(self, paths: Iterable[str]) -> dict[str, int]:
        """What the published method leaves out: self-attention, queries, and all but attention."""
        from toolkit.backbones.unet.left_out import left_out

        return left_out(paths, self.regional)

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """Each region in its concept's own words, and the canvas with class words."""
        from toolkit.methods.reading import encode, own_prompts

        return (encode(base, layout, *own_prompts(layout, concepts)),)

    def start(
        self, base: "Backbone", prepared: "Sequence[Prepared]", steps: int, guidance_scale: float
    ) -> Process:
        """Re-initialise, then refine and predict."""
        from toolkit.methods.refining import Refining

        return Refining(base, [own for (own,) in prepared], self, steps, guidance_scale)

    def again(
        self, base: "Backbone", prepared: "Sequence[Prepared]", guidance_scale: float
    ) -> Process:
        """Predict with regions that attend as ever; the constraints move nothing any more."""
        from toolkit.methods.plain import Plain

        return Plain(base, [own for (own,) in prepared], guidance_scale, self.regional)

    def step_size_at(self, step: int, steps: int) -> float:
        """phi_t (eq. 10): decays from `step_size` to its half, or that half's root."""
        line = 1.0 - 0.5 * step / max(steps - 1, 1)
        return self.step_size * (line if self.step_decay is Decay.LINE else line**0.5)

    def is_closed_at(self, step: int, steps: int) -> bool:
        """Whether boxes do not see the background at `step` of `steps`."""
        return step < self.closed_share * steps

    def is_released_at(self, step: int, steps: int) -> bool:
        """Whether regions see each other at `step` of `steps`."""
        return step >= self.isolation_until * steps

    def rises(self, step: int, loss: float, last_loss: float) -> bool:
        """Whether a loss that is above the last one's is heeded at `step`."""
        return self.adaptive_stop and step >= self.min_guidance_steps and loss > last_loss

    def ends_at(self, step: int, steps: int) -> bool:
        """Whether the update at `step` of `steps` is the last, whatever the loss."""
        end = self.max_guidance_steps
        spent = step + 1 >= self.guidance_share * steps
        return spent or (end is not None and step >= end)


PUBLISHED = LoraComposer()
PAPER = LoraComposer(
    enhancement_weight=1.0,
    fill_weight=0.25,
    region_weight=0.8,
    min_guidance_steps=0,
    max_guidance_steps=None,
    smoothing=False,
    fill_formula=Fill.EQUATIONS,
    mean_over_tokens=True,
    step_decay=Decay.LINE,
    standard_start=True,
    refine_first=True,
)
BALANCED = replace(
    PUBLISHED,
    self_attention_injection=True,
    query_injection=True,
    closed_share=0.4,
    subject_bias=-3.0,
    guidance_share=0.36,
    min_guidance_steps=0,
    max_guidance_steps=None,
    update_in_regions=True,
    update_limit=0.3,
    keep_statistics=True,
    pace_per_region=True,
    damping=True,
)
PRESETS = {Preset.PUBLISHED: PUBLISHED, Preset.PAPER: PAPER, Preset.BALANCED: BALANCED}
