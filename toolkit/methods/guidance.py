"""The guidance pass: attention maps of the current latents, and the update they ask for."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.unet.attention import (
    AttentionMaps,
    MapsComplete,
    Recorder,
    composed_attention,
)
from toolkit.backbones.unet.conditioning import POSITIVE, Conditioning
from toolkit.backbones.unet.passes import unet_pass
from toolkit.backbones.unet.share import Share
from toolkit.layout.cells import cells_of
from toolkit.methods.method import Constants, Method
from toolkit.methods.objective import (
    RegionTerms,
    paced_losses,
    region_terms,
    worst_first,
)
from toolkit.methods.pace import Pace, start
from toolkit.methods.update import limited, reach_of, with_statistics_of

_HALF_LOSS_SCALE = 256.0  # small gradients inside the U-Net would be 0 in float16


@dataclass(frozen=True)
class Guidance:
    """What one guidance pass found for one picture.

    losses: eq. 9, each region's part of it where regions are paced by themselves, else one sum.
    terms: one for each region. maps: one for each region, (tokens, h, w).
    """

    losses: tuple[float, ...]
    terms: tuple[RegionTerms, ...]
    maps: tuple[Tensor, ...]

    @property
    def loss(self) -> float:
        """Eq. 9."""
        return sum(self.losses)


def group_by_layout(conditionings: Sequence[Conditioning]) -> list[tuple[Conditioning, int]]:
    """Each run of equal neighbours, and how long it is."""
    runs: list[tuple[Conditioning, int]] = []
    for conditioning in conditionings:
        if runs and runs[-1][0] is conditioning:
            runs[-1] = (conditioning, runs[-1][1] + 1)
        else:
            runs.append((conditioning, 1))
    return runs


def shares_of(conditionings: Sequence[Conditioning], sides: tuple[str, ...]) -> list[Share]:
    """The batch's shares; a share's rows are its first side's seeds, then its second side's."""
    shares, start = [], 0
    for conditioning, count in group_by_layout(conditionings):
        stop = start + count * len(sides)
        shares.append(Share(conditioning, slice(start, stop), sides))
        start = stop
    return shares


def attention_maps(
    base: Base,
    latents: Tensor,
    timestep: Tensor,
    conditionings: Sequence[Conditioning],
    method: Method,
    self_attention: bool,
    closed: bool = False,
) -> list[AttentionMaps]:
    """One conditional pass that ends after the last layer at the guidance resolution.

    latents: (pictures, channels, h, w), one for each of `conditionings`.
    """
    shares = shares_of(conditionings, (POSITIVE,))
    guiding = [layer for layer in base.layers if layer.downscale == base.guidance_downscale]
    recorder = Recorder(
        downscale=base.guidance_downscale,
        last_layer=guiding[-1].cross_attention,
        maps=[AttentionMaps() for _ in shares],
        wants_self_attention=self_attention,
    )
    size = (latents.shape[2], latents.shape[3])
    with composed_attention(base, shares, method, size, recorder, closed), suppress(MapsComplete):
        unet_pass(base, latents, timestep, shares)
    return recorder.maps


def concept_maps(
    base: Base, conditionings: Sequence[Conditioning], maps: Sequence[AttentionMaps]
) -> list[list[Tensor]]:
    """For each picture and region: (h, w, places), averaged over layers."""
    found: list[list[Tensor]] = []
    runs = group_by_layout(conditionings)
    for (conditioning, count), recorded in zip(runs, maps, strict=True):
        layout = conditioning.layout
        size = base.guidance_cells(layout.width, layout.height)
        mean = torch.stack(recorded.cross).mean(dim=0)
        for picture in range(count):
            found.append([region.unflatten(0, size) for region in mean[picture]])
    return found


def self_maps(
    conditionings: Sequence[Conditioning], maps: Sequence[AttentionMaps]
) -> list[Tensor | None]:
    """For each picture: (cells, cells) self-attention averaged over layers; None if not taken."""
    found: list[Tensor | None] = []
    for (_, count), recorded in zip(group_by_layout(conditionings), maps, strict=True):
        found.extend(torch.stack(recorded.own).mean(dim=0) if recorded.own else [None] * count)
    return found


def refine(
    base: Base,
    latents: Tensor,
    timestep: Tensor,
    conditionings: Sequence[Conditioning],
    method: Method,
    step_size: float,
    paces: Sequence[Pace] | None = None,
    closed: bool = False,
) -> tuple[Tensor, list[Guidance]]:
    """One update of eq. 10: latents against the gradient of each picture's own loss.

    latents: (pictures, channels, h, w). paces: for each picture; None is full pace.
    Returns them updated, and what was found before the update.
    """
    paces = paces or [start(len(each.regions), method) for each in conditionings]
    with torch.enable_grad():
        moving = latents.detach().requires_grad_(True)
        maps = attention_maps(
            base, moving, timestep, conditionings, method, method.region_loss, closed
        )
        crossed = concept_maps(base, conditionings, maps)
        own = self_maps(conditionings, maps)
        descended, found = [], []
        for conditioning, regions, self_map, pace in zip(
            conditionings, crossed, own, paces, strict=True
        ):
            terms, tokens = [], []
            for region, attention in zip(conditioning.regions, regions, strict=True):
                cells = cells_of(region.box, *attention.shape[:2])
                assert cells is not None, "checked when the layout was prepared"
                tokens.append(attention[..., list(region.places)].permute(2, 0, 1))
                terms.append(region_terms(tokens[-1], self_map, cells, method))
            losses = paced_losses(terms, method)
            descended.append((worst_first(losses) * losses.new_tensor(pace.factors) * losses).sum())
            found.append((losses, terms, tokens))
        scale = _HALF_LOSS_SCALE if base.dtype == torch.float16 else 1.0
        (gradient,) = torch.autograd.grad(scale * torch.stack(descended).sum(), moving)
    guidances = [
        Guidance(
            losses=tuple(losses.tolist()),
            terms=tuple(RegionTerms(*(part.detach() for part in vars(t).values())) for t in terms),
            maps=tuple(token.detach() for token in tokens),
        )
        for losses, terms, tokens in found
    ]
    moved = latents - step_size / scale * gradient
    return _bounded(latents, moved, conditionings, paces, method.constants), guidances


def _bounded(
    latents: Tensor,
    moved: Tensor,
    conditionings: Sequence[Conditioning],
    paces: Sequence[Pace],
    constants: Constants,
) -> Tensor:
    """What is left of an update after the method's bounds: where, how far, what it must keep."""
    height, width = latents.shape[2:]
    reach = torch.ones((), device=latents.device)
    if constants.update_in_regions:
        regions = [
            [cells_of(region.box, height, width) for region in conditioning.regions]
            for conditioning in conditionings
        ]
        factors = [pace.of_regions(len(own)) for pace, own in zip(paces, regions, strict=True)]
        zeros = torch.zeros(len(latents), 1, height, width)
        reach = reach_of(regions, factors, zeros).to(latents)
        moved = torch.where(reach > 0, moved, latents)
    if constants.update_limit:
        moved = latents + limited(moved - latents, latents, constants.update_limit)
    if constants.keep_statistics:
        moved = with_statistics_of(latents, moved, reach.expand_as(latents[:, :1]))
    return moved
