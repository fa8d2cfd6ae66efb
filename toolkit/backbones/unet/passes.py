"""One pass of the U-Net over a batch that several layouts share, with their image conditions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.unet.controls import ControlNetInput, weighted
from toolkit.backbones.unet.share import Share


def unet_pass(base: Base, latents: Tensor, timestep: Tensor, shares: Sequence[Share]) -> Tensor:
    """(rows, channels, h, w) noise (or velocity) for latents of that shape, in the base's type.

    The attention processors have keys and values already. What ControlNets add is taken as fixed
    while the constraints move the latents: no gradient passes through them.
    """
    latents = latents.to(base.dtype)
    residuals = _controlnet_residuals(latents, timestep, shares)
    output: Tensor = base.unet(
        latents,
        timestep,
        encoder_hidden_states=_unused_text(base, latents),
        down_block_additional_residuals=residuals[:-1] or None,
        mid_block_additional_residual=residuals[-1] if residuals else None,
        down_intrablock_additional_residuals=_adapter_features(len(latents), shares) or None,
    ).sample
    return output


def _unused_text(base: Base, latents: Tensor) -> Tensor:
    """The U-Net insists on encoder_hidden_states, which the processors do not read."""
    width = int(base.unet.config.cross_attention_dim)
    return latents.new_zeros((len(latents), 1, width))


@torch.no_grad()
def _controlnet_residuals(
    latents: Tensor, timestep: Tensor, shares: Sequence[Share]
) -> tuple[Tensor, ...]:
    """For each skip connection and the middle, what all ControlNets add; () without any."""
    total: tuple[Tensor, ...] = ()
    for share in shares:
        for control in share.conditioning.controls.networks:
            found = _residuals(control, latents[share.rows], timestep, share)
            if not total:
                total = tuple(part.new_zeros((len(latents), *part.shape[1:])) for part in found)
            for whole, part in zip(total, found, strict=True):
                whole[share.rows] += part
    return total


def _residuals(
    control: ControlNetInput, latents: Tensor, timestep: Tensor, share: Share
) -> list[Tensor]:
    seeds = len(latents) // len(share.sides)
    text = [control.text[side].expand(seeds, -1, -1) for side in share.sides]
    down, middle = control.network(
        latents,
        timestep,
        encoder_hidden_states=torch.cat(text),
        controlnet_cond=control.pixels.expand(len(latents), -1, -1, -1),
        return_dict=False,
    )
    layout = share.conditioning.layout
    return [weighted(part, control.condition, layout) for part in (*down, middle)]


def _adapter_features(rows: int, shares: Sequence[Share]) -> list[Tensor]:
    """For each down block, what all T2I-Adapters add; [] without any."""
    total: list[Tensor] = []
    for share in shares:
        features = share.conditioning.controls.adapter
        if features and not total:
            total = [feature.new_zeros((rows, *feature.shape[1:])) for feature in features]
        for whole, feature in zip(total, features, strict=False):
            whole[share.rows] += feature
    return total
