"""What a family of models must offer to compose with; everything else about it stays inside.

Training and other programs' formats ask for more, which `unet.base.Base` has: docs/code.md says
what a family of another kind would have to write.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from toolkit.backbones.pass_count import PassCount
from toolkit.backbones.prompts import Prompt, Regional
from toolkit.backbones.unet.names import Part
from toolkit.backbones.unet.schedule import NoiseSchedule
from toolkit.layout.areas import Area
from toolkit.layout.layout import Layout, Region
from toolkit.layout.tiles import Tile


@dataclass(frozen=True)
class EncodedRegion:
    """A region of a layout, the places at which its prompt calls its concept, and its area."""

    region: Region
    places: tuple[int, ...]
    area: Area


class Conditioning(Protocol):
    """One layout, encoded: what its passes need that depends on neither latents nor timestep."""

    @property
    def layout(self) -> Layout:
        """The layout that was encoded."""
        ...

    @property
    def regions(self) -> tuple[EncodedRegion, ...]:
        """Its regions; none where only a prompt for the canvas was given."""
        ...

    @property
    def varies(self) -> bool:
        """Whether some concept's strength changes over the steps."""
        ...

    def at(self, share: float) -> "Conditioning":
        """The same as it is when this share of the steps is over, from 0 to 1."""
        ...

    def with_areas(self, areas: Sequence[Area]) -> "Conditioning":
        """The same, with its regions in other parts of the canvas."""
        ...

    def of_tile(self, tile: Tile) -> "Conditioning":
        """The same for a part of the canvas: its regions where they lie in it."""
        ...


class Passes(Protocol):
    """The passes of one batch of pictures; what they need is made when it is first asked for."""

    @property
    def dtype(self) -> torch.dtype:
        """What they compute in; results are float32."""
        ...

    def predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        guidance_scale: float | Tensor,
        closed: bool = False,
        steering: float = 0.0,
    ) -> Tensor:
        """The two-sided denoising pass: (pictures, channels, h, w) noise (or velocity), float32.

        guidance_scale: of classifier-free guidance, for all cells or (pictures, 1, h, w).
        closed: boxes do not see the background either. steering: how strongly layout guidance acts.
        """
        ...

    def maps(
        self,
        latents: Tensor,
        timestep: Tensor,
        pictures: Sequence[int],
        self_attention: bool,
        closed: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What a conditional pass attends to at the guidance grid; gradients flow to the latents.

        latents: (n, channels, h, w) of those `pictures` of the batch. Gradients are to be taken
        `undisturbed`.
        Returns (n, regions, places, h, w) cross-attention probabilities of each region's prompt,
        and, if asked for, (n, cells, cells) self-attention probabilities. A layout with fewer
        regions than others has meaningless ones behind its own.
        """
        ...

    def undisturbed(self) -> AbstractContextManager[object]:
        """Around `maps` and the way back: nobody else changes the base meanwhile."""
        ...


class Scheduler(Protocol):
    """A diffusers scheduler of the solver that composing uses, set to its timesteps."""

    timesteps: Tensor
    init_noise_sigma: float
    model_outputs: list[Any]
    """The last of them is what the last step predicts of the latents without noise."""

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> Any:
        """The latents after a step, as `prev_sample`."""
        ...


class MidwayScheduler(Scheduler, Protocol):
    """One that may also begin in the middle, from latents that are noised up to there."""

    def set_begin_index(self, begin_index: int) -> None:
        """The first step will be this one."""
        ...

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """(n, ...) clean latents noised as they are before the step at one of (n,) timesteps."""
        ...


class Backbone(Protocol):
    """A frozen text-to-image model, as methods and the denoising loop know it."""

    @property
    def name(self) -> str:
        """What results and messages call it."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are held in."""
        ...

    @property
    def passes_made(self) -> PassCount:
        """Passes of its denoising network, counted by all who compose with it."""
        ...

    @property
    def latent_channels(self) -> int:
        """Of a latent."""
        ...

    @property
    def guidance_downscale(self) -> int:
        """How many latent cells high and wide a cell of the guidance grid is."""
        ...

    @property
    def architecture(self) -> str:
        """Equal for models whose LoRAs have the same shapes."""
        ...

    @property
    def embedding_shapes(self) -> dict[Part, tuple[int, int]]:
        """(layers, width) of what stands for one of a concept's tokens, by text encoder."""
        ...

    def map_shapes(self, part: Part) -> dict[str, tuple[int, int]]:
        """(out, in) of each linear map of a part, by its path; none of a part that it lacks."""
        ...

    def weight_shapes(self, part: Part) -> dict[str, tuple[int, ...]]:
        """The shape of the weight of each map of a part that a concept may change, by its path."""
        ...

    def bytes_of_picture(self, width: int, height: int) -> int:
        """What one more picture in a batch takes, in bytes: an estimate."""
        ...

    def latent_size(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of latents for a canvas in pixels."""
        ...

    def guidance_cells(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of the guidance grid for a canvas in pixels."""
        ...

    def scheduler(self, steps: int) -> MidwayScheduler:
        """A scheduler, set to `steps` timesteps."""
        ...

    def noise_schedule(self) -> NoiseSchedule:
        """How latents are noised, and what is then asked of the model."""
        ...

    def check_layout(self, layout: Layout) -> None:
        """Raise InputError for a wrong size or condition, or a region without a cell."""
        ...

    def check_prompt(self, prompt: Prompt) -> None:
        """Raise InputError for a prompt that does not fit, or that calls no concept."""
        ...

    def condition(
        self, layout: Layout, canvas: Prompt, regions: Sequence[Prompt] = ()
    ) -> Conditioning:
        """The layout with these prompts, encoded under their concepts.

        regions: a prompt for each region of the layout, or none at all.
        Raises InputError as the checks do.
        """
        ...

    def passes(
        self,
        conditionings: Sequence[Conditioning],
        regional: Regional,
        grouped: bool | None = None,
    ) -> Passes:
        """The passes over pictures of these layouts, one picture for each.

        grouped: isolation by groups of cells and not by a mask; None takes what is faster.
        """
        ...


if TYPE_CHECKING:
    from toolkit.backbones.unet.base import Base

    def _is_a_backbone(base: Base) -> Backbone:
        return base
