"""Passes of the U-Net over a batch of pictures: a denoising pass, and one that gives maps."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor

from toolkit.backbones.placed import changes_applied
from toolkit.backbones.prompts import Regional
from toolkit.backbones.unet.attention import Composing, Maps, MapsComplete
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.conditioning import NEGATIVE, POSITIVE, Conditioning
from toolkit.backbones.unet.controls import ControlNetInput, weighted
from toolkit.backbones.unet.inputs import PassInputs, pass_inputs
from toolkit.backbones.unet.recomputing import blocks_computed_again, computed_again
from toolkit.backbones.unet.rows import Batch


class Passes:
    """The passes of one batch of pictures; what they need is made when it is first asked for.

    grouped: see `Batch`; None takes what is faster on the base's device.
    """

    def __init__(
        self,
        base: Base,
        conditionings: Sequence[Conditioning],
        regional: Regional,
        grouped: bool | None = None,
    ) -> None:
        self.base = base
        self.conditionings = tuple(conditionings)
        self.regional = regional
        faster = base.device.type == "cpu" and not base.compiled  # groups differ in their sizes
        self.grouped = faster if grouped is None else grouped
        self.dtype = base.dtype
        self._kept: dict[tuple[int, ...], dict[object, Any]] = {}
        self._made: dict[tuple[object, ...], tuple[Batch, PassInputs]] = {}

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
        batch, inputs = self._inputs(range(len(latents)), (NEGATIVE, POSITIVE), closed)
        strength = torch.tensor(steering, device=latents.device) if steering else None
        output = _unet(batch, inputs, latents.repeat(2, 1, 1, 1), timestep, strength=strength)
        negative, positive = output.float().chunk(2)
        return negative + guidance_scale * (positive - negative)

    def maps(
        self,
        latents: Tensor,
        timestep: Tensor,
        pictures: Sequence[int],
        self_attention: bool,
        closed: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """What a conditional pass attends to, averaged over the layers at the guidance grid.

        latents: (n, channels, h, w) of those `pictures` of the batch; gradients flow back to them,
        `undisturbed`. The pass ends after the last of those layers.
        Returns (n, regions, places, h, w) cross-attention probabilities of each region's prompt,
        and, if asked for, (n, cells, cells) self-attention probabilities. A layout with fewer
        regions than others has meaningless ones behind its own.
        """
        base = self.base
        batch, inputs = self._inputs(pictures, (POSITIVE,), closed, True, self_attention)
        guiding = base.guiding
        maps = Maps(last=guiding[-1].cross_attention)
        with suppress(MapsComplete):
            _unet(batch, inputs, latents, timestep, maps)
        cross = torch.stack(maps.cross_attention).mean(dim=0).permute(0, 2, 3, 1)
        cross = cross.unflatten(-1, guiding[0].map_size(batch.latent_size))
        if not self_attention:
            return cross, None
        layouts = zip(*maps.self_attention, strict=True)
        by_layout = [torch.stack(layers).mean(dim=0) for layers in layouts]
        if len(by_layout) == 1:
            return cross, by_layout[0]
        rows = [batch.rows_of(layout) for layout in batch.layouts]
        order = torch.cat([row for row in rows if row is not None]).argsort()
        return cross, torch.cat(by_layout)[order]

    def undisturbed(self) -> AbstractContextManager[object]:
        """Around `maps` and the way back: nobody else changes the base meanwhile.

        The way back may compute parts of the pass again.
        """
        return self.base.lock

    def _inputs(
        self,
        pictures: Sequence[int],
        sides: tuple[int, ...],
        closed: bool,
        maps: bool = False,
        self_attention: bool = False,
    ) -> tuple[Batch, PassInputs]:
        """What a pass over some pictures is given; kept, since every step asks for it again."""
        key = (tuple(pictures), sides, closed, maps, self_attention)
        if key not in self._made:
            batch = Batch(
                self.base,
                tuple(self.conditionings[picture] for picture in pictures),
                self.regional,
                sides,
                closed,
                self.grouped,
                maps,
                self_attention,
                self._kept.setdefault(tuple(pictures), {}),
            )
            self._made[key] = (batch, pass_inputs(batch))
        return self._made[key]


def _unet(
    batch: Batch,
    inputs: PassInputs,
    latents: Tensor,
    timestep: Tensor,
    maps: Maps | None = None,
    strength: Tensor | None = None,
) -> Tensor:
    """(rows, channels, h, w) noise (or velocity) for latents of that shape, in the base's type.

    What ControlNets add is taken as fixed while the constraints move the latents: no gradient
    passes through them.
    """
    base = batch.base
    latents = latents.to(base.dtype)
    residuals = _controlnet_residuals(batch, latents, timestep)
    # a compiled graph keeps the hooks of its first pass, and does not see those of others
    hooked = bool(inputs.outside_attention) or inputs.timestep is not None
    denoiser = base.unet if maps is not None or hooked else base.denoiser
    if maps is None:
        base.passes_made.denoising += len(latents)
    else:
        base.passes_made.guidance += len(latents)
    again: Sequence[str] = ()
    if maps is not None and latents.requires_grad:
        again = blocks_computed_again(base, batch.latent_size, len(latents))
    outside = inputs.outside_attention
    with (
        base.lock,
        changes_applied(base.maps if outside else {}, outside),
        nullcontext() if inputs.timestep is None else inputs.timestep.applied(base),
        computed_again(base.unet, again, outside),
    ):
        output: Tensor = denoiser(
            latents,
            timestep,
            encoder_hidden_states=inputs.unused_text,
            added_cond_kwargs=dict(inputs.added) or None,
            cross_attention_kwargs={"composing": Composing(inputs, maps, strength, bool(again))},
            down_block_additional_residuals=residuals[:-1] or None,
            mid_block_additional_residual=residuals[-1] if residuals else None,
            down_intrablock_additional_residuals=_adapter_features(batch) or None,
            return_dict=False,
        )[0]
    return output


@torch.no_grad()
def _controlnet_residuals(batch: Batch, latents: Tensor, timestep: Tensor) -> tuple[Tensor, ...]:
    """For each skip connection and the middle, what all ControlNets add; () without any."""
    total: tuple[Tensor, ...] = ()
    for layout in batch.layouts:
        rows = batch.rows_of(layout)
        for control in layout.controls.networks:
            noisy = latents if rows is None else latents[rows]
            found = _residuals(control, noisy, timestep, layout, batch.sides)
            if not total:
                total = tuple(part.new_zeros((len(latents), *part.shape[1:])) for part in found)
            for whole, part in zip(total, found, strict=True):
                if rows is None:
                    whole += part
                else:
                    whole.index_add_(0, rows, part)
    return total


def _residuals(
    control: ControlNetInput,
    latents: Tensor,
    timestep: Tensor,
    layout: Conditioning,
    sides: tuple[int, ...],
) -> list[Tensor]:
    pictures = len(latents) // len(sides)

    def of_rows(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([parts[side].expand(pictures, *parts[side].shape[1:]) for side in sides])

    pixels: Any = control.pixels.expand(len(latents), -1, -1, -1)
    kinds: dict[str, Any] = {}
    mode = control.condition.mode
    if mode is not None:
        pixels = [pixels]
        kind = torch.zeros(len(latents), control.network.config.num_control_type)
        kind[:, mode] = 1
        kinds = {"control_type": kind.to(latents), "control_type_idx": [mode]}
    down, middle = control.network(
        latents,
        timestep,
        encoder_hidden_states=of_rows(control.text),
        controlnet_cond=pixels,
        added_cond_kwargs={name: of_rows(both.split(1)) for name, both in layout.added.items()},
        return_dict=False,
        **kinds,
    )
    return [
        weighted(part, control.condition, layout.layout, control.tile) for part in (*down, middle)
    ]


def _adapter_features(batch: Batch) -> list[Tensor]:
    """For each down block, what all T2I-Adapters add; [] without any."""
    total: list[Tensor] = []
    count = len(batch.sides) * len(batch.conditionings)
    for layout in batch.layouts:
        features, rows = layout.controls.adapter, batch.rows_of(layout)
        if features and not total:
            total = [feature.new_zeros((count, *feature.shape[1:])) for feature in features]
        for whole, feature in zip(total, features, strict=False):
            whole[slice(None) if rows is None else rows] += feature
    return total
