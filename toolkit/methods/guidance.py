"""One guidance update: attention maps of the latents, and the move they ask for (eq. 10)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones import Passes
from toolkit.methods.lora_composer import LoraComposer
from toolkit.methods.objective import Terms, losses_of, terms_of, weighted, worst_first
from toolkit.methods.outlines import presence_of
from toolkit.methods.pace import Pace
from toolkit.methods.places import Places
from toolkit.methods.update import limited, reach_of, with_statistics_of

_HALF_LOSS_SCALE = 256.0  # small gradients inside the U-Net would be 0 in float16


@dataclass(frozen=True)
class Guidance:
    """What one guidance pass found for one picture.

    losses: eq. 9, each region's part of it where regions are paced by themselves, else one sum.
    parts: by name, each region's weighted constraint, (regions,).
    terms: one for each region, its tokens only. maps: one for each region, (tokens, h, w).
    presence: one for each region, (h, w), where its subject is (`outlines.presence_of`); none where
        the method draws no outlines.
    """

    losses: tuple[float, ...]
    parts: dict[str, Tensor]
    terms: tuple[Terms, ...]
    maps: tuple[Tensor, ...]
    presence: tuple[Tensor, ...]

    @property
    def loss(self) -> float:
        """Eq. 9."""
        return sum(self.losses)


def refine(
    passes: Passes,
    latents: Tensor,
    timestep: Tensor,
    pictures: Sequence[int],
    places: Places,
    method: LoraComposer,
    step_size: float,
    paces: Sequence[Pace],
    closed: bool = False,
) -> tuple[Tensor, list[Guidance]]:
    """One update of eq. 10: move latents against the gradient of each picture's own loss.

    latents: (n, channels, h, w) of these `pictures` of the batch; places, paces: theirs.
    Returns them updated, and what was found before the update.
    """
    factors = _factors(paces, places).to(latents.device)
    with torch.enable_grad(), passes.undisturbed():
        moving = latents.detach().requires_grad_(True)
        cross, self_attention = passes.maps(moving, timestep, pictures, method.region_loss, closed)
        tokens = cross.gather(
            2, places.tokens[..., None, None].expand(-1, -1, -1, *cross.shape[-2:])
        )
        terms = terms_of(tokens, self_attention, places, method)
        losses = losses_of(terms, places, method)
        descended = factors * losses
        if method.pace_per_region:
            counts = places.present.sum(dim=1, keepdim=True).clamp(min=1)
            descended = worst_first(losses, counts) * descended
        scale = _HALF_LOSS_SCALE if passes.dtype == torch.float16 else 1.0
        (gradient,) = torch.autograd.grad(scale * descended.sum(), moving)
    moved = latents - step_size / scale * gradient
    attended = None if self_attention is None else self_attention.detach()
    found = _found(terms, losses.detach(), tokens.detach(), attended, places, method)
    return _bounded(latents, moved, places, factors, method), found


def _factors(paces: Sequence[Pace], places: Places) -> Tensor:
    """(pictures, regions or 1) what each loss is multiplied with."""
    most = max((len(pace.factors) for pace in paces), default=0)
    return torch.tensor([[*pace.factors, *[0.0] * (most - len(pace.factors))] for pace in paces])


def _found(
    terms: Terms,
    losses: Tensor,
    tokens: Tensor,
    self_attention: Tensor | None,
    places: Places,
    method: LoraComposer,
) -> list[Guidance]:
    """What the pass found for each picture, without the regions that only others have."""
    detached = Terms(*(part.detach() for part in vars(terms).values()))
    parts = weighted(detached, places.has_token, method)
    found = []
    for picture, its_losses in enumerate(losses.tolist()):
        token_counts = [len(called) for called in places.called[picture]]
        regions = range(len(token_counts))
        maps = tuple(tokens[picture, n, : token_counts[n]] for n in regions)
        attended = None if self_attention is None else self_attention[picture]
        found.append(
            Guidance(
                losses=tuple(
                    its_losses[: len(token_counts)] if method.pace_per_region else its_losses
                ),
                parts={name: part[picture, : len(token_counts)] for name, part in parts.items()},
                terms=tuple(
                    Terms(
                        detached.enhancement[picture, n, : token_counts[n]],
                        detached.fill_x[picture, n, : token_counts[n]],
                        detached.fill_y[picture, n, : token_counts[n]],
                        detached.region[picture, n],
                    )
                    for n in regions
                ),
                maps=maps,
                presence=tuple(presence_of(own, attended) for own in maps)
                if method.mask_refinement
                else (),
            )
        )
    return found


def _bounded(
    latents: Tensor, moved: Tensor, places: Places, factors: Tensor, method: LoraComposer
) -> Tensor:
    """What is left of an update after the method's bounds: where, how far, what it must keep."""
    reach = torch.ones_like(latents[:, :1])
    if method.update_in_regions:
        reach = reach_of(places.reach, factors)
        moved = torch.where(reach > 0, moved, latents)
    if method.update_limit:
        moved = latents + limited(moved - latents, latents, method.update_limit)
    if method.keep_statistics:
        moved = with_statistics_of(latents, moved, reach)
    return moved
