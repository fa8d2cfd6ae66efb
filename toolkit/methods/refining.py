"""LoRA-Composer's batch on its way (fig. 2a): re-initialise; then refine, and predict."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from toolkit.backbones import Backbone, Conditioning
from toolkit.backbones.prompts import Regional
from toolkit.errors import RunError
from toolkit.methods.guidance import Guidance, refine
from toolkit.methods.lora_composer import LoraComposer
from toolkit.methods.outlines import outlined
from toolkit.methods.pace import next_pace, start
from toolkit.methods.places import Places, places_of
from toolkit.methods.plain import scales_of
from toolkit.methods.reinitialisation import move_noise, rescale_paper, rescale_published
from toolkit.methods.update import deviation_of

DESTROYED = 1.4
"""How much wider all updates together may make the latents.

Measured on the embedded base, a dog and a robot: clean pictures stay below 1.1, one of three times
the published step, which is bent but whole, is at 1.2, and those of 5 to 25 times, of which first
the canvas and then all is a mosaic, are at 1.7 to 4.2.
"""


class Refining:
    """The pictures of one batch, and how far the refinement of each has come.

    grouped: see `Passes`.
    """

    def __init__(
        self,
        base: Backbone,
        conditionings: Sequence[Conditioning],
        method: LoraComposer,
        steps: int,
        guidance_scale: float,
        grouped: bool | None = None,
    ) -> None:
        self.base, self.method, self.steps = base, method, steps
        self.guidance_scale, self.grouped = guidance_scale, grouped
        self.conditionings = list(conditionings)
        self._attend(method.regional)
        self.paces = [start(len(each.regions), method) for each in conditionings]
        self.spread = torch.ones(len(conditionings))
        self._places: dict[tuple[int, ...], Places] = {}

    def begin(self, noise: Tensor, timestep: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """Noise with each concept's preferred noise in its box (eq. 11), and what chose it."""
        if not self.method.reinitialisation or not any(c.regions for c in self.conditionings):
            return noise, []
        pictures = tuple(range(len(noise)))
        places = self._places_of(pictures)
        if self.method.refine_first and self.method.refines:
            paces = [start(len(each.regions), self.method) for each in self.conditionings]
            step_size = self.method.step_size
            noise, _ = refine(
                self.passes, noise, timestep, pictures, places, self.method, step_size, paces
            )
        cross, _ = self.passes.maps(noise, timestep, pictures, self_attention=False)
        responses = [
            [own.permute(1, 2, 0) for own in regions[: len(cells)]]
            for regions, cells in zip(cross, places.cells, strict=True)
        ]
        started = []
        for number, picture in enumerate(noise):
            cells, called = places.cells[number], places.called[number]
            sums = [
                response[..., list(own)].sum(dim=-1)
                for response, own in zip(responses[number], called, strict=True)
            ]
            moved = move_noise(picture, sums, cells, self.base.guidance_downscale)
            if not cells:
                started.append(picture)
            elif self.method.standard_start:
                started.append(rescale_paper(moved))
            else:
                started.append(rescale_published(moved, picture))
        return torch.stack(started), responses

    def refine(
        self, latents: Tensor, number: int, timestep: Tensor
    ) -> tuple[Tensor, dict[int, Guidance]]:
        """One update of every picture whose refinement is not over (eq. 10).

        Raises RunError when the updates have widened the latents of one beyond DESTROYED.
        """
        self._strengthen(number)
        if self.regional.isolation and self.method.is_released_at(number, self.steps):
            self._attend(replace(self.regional, isolation=False))
        active = tuple(index for index, pace in enumerate(self.paces) if not pace.is_over)
        if not active:
            return latents, {}
        all_active = len(active) == len(latents)
        before = latents if all_active else latents[list(active)]
        refined, found = refine(
            self.passes,
            before,
            timestep,
            active,
            self._places_of(active),
            self.method,
            self.method.step_size_at(number, self.steps),
            [self.paces[index] for index in active],
            self.method.is_closed_at(number, self.steps),
        )
        self._check_spread(active, (deviation_of(refined) / deviation_of(before)).cpu(), number)
        for index, result in zip(active, found, strict=True):
            self.paces[index] = next_pace(
                self.paces[index], number, self.steps, result.losses, self.method
            )
        if self.method.mask_refinement:
            self._outline(dict(zip(active, found, strict=True)))
        rows = torch.tensor(active, device=latents.device)
        moved = refined if all_active else latents.index_copy(0, rows, refined)
        return moved, dict(zip(active, found, strict=True))

    def predict(self, latents: Tensor, number: int, timestep: Tensor) -> Tensor:
        """(pictures, channels, h, w) noise (or velocity)."""
        closed = self.method.is_closed_at(number, self.steps)
        return self.passes.predict(latents, timestep, self.scale, closed)

    def _attend(self, regional: Regional) -> None:
        """From now on regions attend so, each where its conditioning has it."""
        self.regional = regional
        self.passes = self.base.passes(self.conditionings, regional, self.grouped)
        self.scale = scales_of(self.base, self.conditionings, self.guidance_scale)

    def _strengthen(self, number: int) -> None:
        """Let concepts act as strongly as they are to at a step, where that changes."""
        if number and any(each.varies for each in self.conditionings):
            share = number / max(self.steps - 1, 1)
            now = {id(each): each.at(share) for each in self.conditionings}
            self.conditionings = [now[id(each)] for each in self.conditionings]
            self._attend(self.regional)

    def _outline(self, found: Mapping[int, Guidance]) -> None:
        """Give regions their subjects' outlines, in pictures whose last update `found` is."""
        done = [index for index in found if self.paces[index].is_over]
        for index in done:
            areas = [one.area for one in self.conditionings[index].regions]
            cells = self._places_of((index,)).cells[0]
            outlines = map(outlined, areas, cells, found[index].presence)
            self.conditionings[index] = self.conditionings[index].with_areas(list(outlines))
        if done:
            self._attend(self.regional)

    def _places_of(self, pictures: tuple[int, ...]) -> Places:
        if pictures not in self._places:
            own = [self.conditionings[picture] for picture in pictures]
            self._places[pictures] = places_of(
                self.base, own, self.method.top_share, self.method.gaussian_weight
            )
        return self._places[pictures]

    def _check_spread(self, pictures: Sequence[int], wider: Tensor, number: int) -> None:
        self.spread[list(pictures)] *= wider
        if (worst := float(self.spread.max())) > DESTROYED:
            raise RunError(
                f"guidance has destroyed the picture at step {number} of {self.steps}: its latents "
                f"have {worst:.1f} times the deviation that the base gives them; lower "
                "method.step_size, or take method=balanced"
            )
