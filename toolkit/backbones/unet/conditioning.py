"""Everything a layout's passes need that depends on neither the latents nor the timestep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from toolkit.backbones.map_change import MapChange
from toolkit.backbones.placed import placed, ready
from toolkit.backbones.prompts import Prompt
from toolkit.backbones.protocol import EncodedRegion
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.controls import Controls, prepare_controls
from toolkit.backbones.unet.encoding import (
    EncodedPrompt,
    encode_prompts,
    places_of,
    places_of_words,
    tokenise_pair,
)
from toolkit.backbones.unet.framing import Framing, added_conditions, framed
from toolkit.backbones.unet.names import Part
from toolkit.backbones.unet.subjects import subject_places, with_residuals
from toolkit.errors import InputError, shortened
from toolkit.layout.areas import Area, area_of
from toolkit.layout.layout import Layout
from toolkit.layout.strength import StrengthSchedule, strength_at
from toolkit.layout.tiles import Tile

NEGATIVE, POSITIVE = 0, 1
"""The two sides of classifier-free guidance, in the order in which a pass has them."""


Projected = tuple[tuple[Mapping[str, MapChange], ...], Mapping[str, Tensor], Mapping[str, Tensor]]
"""Changes, keys and values of a `Conditioning`."""


@dataclass(frozen=True)
class Conditioning:
    """One layout, ready to sample.

    keys, values: by path of the cross-attention layer, (sides, heads, places, width of a head): the
        places of the canvas's prompt, then those of each region's in the layout's order.
    window: the places of one prompt.
    changes: what the canvas's concept, and then each region's, changes of the U-Net's maps, by
        path, with their strength; empty without a concept.
    subjects: where the canvas's prompt has the regions' class words.
    controls: what the layout's image conditions add.
    steered: the words of the canvas's prompt that layout guidance draws to a region.
    added: what the U-Net is told beside the prompts, (sides, ...) by diffusers' names: the pooled
        text of the canvas's prompt, which is one for all cells, and the canvas's size. Nothing but
        for Stable Diffusion XL.
    """

    layout: Layout
    regions: tuple[EncodedRegion, ...]
    keys: Mapping[str, Tensor]
    values: Mapping[str, Tensor]
    window: int
    changes: tuple[Mapping[str, MapChange], ...]
    subjects: tuple[int, ...]
    controls: Controls = Controls()
    steered: tuple[EncodedRegion, ...] = ()
    added: Mapping[str, Tensor] = field(default_factory=dict)
    project: Callable[[float], Projected] | None = None
    """What makes the changes, keys and values of a share of the steps; None where all are alike."""

    @property
    def varies(self) -> bool:
        """Whether some concept's strength changes over the steps."""
        return self.project is not None

    def at(self, share: float) -> "Conditioning":
        """The same as it is when this share of the steps is over, from 0 to 1."""
        if self.project is None:
            return self
        changes, keys, values = self.project(share)
        return replace(self, changes=changes, keys=keys, values=values)

    def with_areas(self, areas: Sequence[Area]) -> "Conditioning":
        """The same, with its regions in other parts of the canvas."""
        regions = (replace(one, area=area) for one, area in zip(self.regions, areas, strict=True))
        return replace(self, regions=tuple(regions))

    def of_tile(self, tile: Tile) -> "Conditioning":
        """The same for a part of the canvas: its regions where they lie in it."""

        def shown(regions: Sequence[EncodedRegion]) -> tuple[EncodedRegion, ...]:
            return tuple(replace(one, area=replace(one.area, tile=tile)) for one in regions)

        width, height = tile.canvas
        framing = Framing((height, width), (tile.top, tile.left), (tile.height, tile.width))
        return replace(
            self,
            layout=replace(self.layout, width=tile.width, height=tile.height),
            regions=shown(self.regions),
            steered=shown(self.steered),
            controls=self.controls.of_tile(tile),
            added=framed(self.added, framing),
        )


def check_prompt(prompt: Prompt, base: Base) -> None:
    """Raise InputError for a prompt beyond the text encoder's window, or that calls no concept."""
    positive, _ = tokenise_pair(base, prompt)
    if prompt.change is not None and not places_of(prompt.change, positive, base):
        raise InputError(
            f"prompt {shortened(prompt.text)!r} holds no token of {prompt.change.name}: "
            f"write {prompt.change.placeholder} in it"
        )


@torch.no_grad()
def condition(
    base: Base, layout: Layout, canvas: Prompt, regions: Sequence[Prompt] = ()
) -> Conditioning:
    """Encode the prompts of a layout, and project them to keys and values (eq. 2).

    regions: a prompt for each region of the layout, or none at all.
    Raises InputError when a region does not fit the canvas, or a prompt the text encoder's window.
    """
    base.sizes.check_layout(layout, base.name)
    prompts = [canvas, *regions]
    encoded = encode_prompts(base, prompts)
    called = subject_places(canvas, encoded[0].tokens, base)
    encoded[0] = with_residuals(encoded[0], canvas, called)
    project = partial(_at, base, prompts, encoded)
    changes, keys, values = project(0.0)
    tokens = [one.tokens for one in encoded]
    added = added_conditions(encoded[0].pooled, [Framing.whole(layout.width, layout.height)] * 2)
    return Conditioning(
        layout=layout,
        regions=tuple(
            EncodedRegion(
                region,
                places_of(prompt.change, read, base) if prompt.change else (),
                area_of(region),
            )
            for region, prompt, read in zip(layout.regions, regions, tokens[1:], strict=False)
        ),
        keys=keys,
        values=values,
        window=encoded[0].positive.shape[1],
        changes=changes,
        subjects=_subjects(base, encoded[0], regions),
        controls=prepare_controls(base, layout, (encoded[0].negative, encoded[0].positive)),
        steered=tuple(
            EncodedRegion(subject.region, places, area_of(subject.region))
            for subject, places in zip(canvas.subjects, called, strict=True)
            if subject.region is not None
        ),
        added=added,
        project=project if any(isinstance(p.strength, StrengthSchedule) for p in prompts) else None,
    )


@torch.no_grad()
def _at(
    base: Base, prompts: Sequence[Prompt], encoded: Sequence[EncodedPrompt], share: float
) -> Projected:
    """What depends on the concepts' strengths, when this share of the steps is over."""
    changes = tuple(_changes(base, prompt, share) for prompt in prompts)
    with base.lock:
        return changes, *_project(base, encoded, changes)


def _changes(base: Base, prompt: Prompt, share: float) -> dict[str, MapChange]:
    change = prompt.change
    if change is None:
        return {}
    factor = change.scale * strength_at(prompt.strength, share)
    return {
        path: ready(own.scaled(factor), base.maps[path], base.dtype)
        for path, own in change.changes[Part.UNET].items()
    }


def _project(
    base: Base, encoded: Sequence[EncodedPrompt], changes: Sequence[Mapping[str, MapChange]]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Keys and values by cross-attention layer, (sides, heads, prompts * places, width)."""
    acts = torch.eye(len(encoded), device=base.device).repeat(2, 1)[:, None]
    texts = torch.stack(
        [one.negative for one in encoded] + [one.positive for one in encoded]
    )  # (sides * prompts, transformers, places, width)
    projected: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for layer in base.layers:
        for into, name in zip(projected, ("to_k", "to_v"), strict=True):
            path = f"{layer.cross_attention}.{name}"
            text = texts[:, layer.transformer]
            row: Tensor = base.maps[path](text)
            if any(path in by_path for by_path in changes):
                own = [by_path.get(path) for by_path in changes]
                weights = None if len(encoded) == 1 else acts
                row = placed(own, weights, base.maps[path]).added(row, text)
            heads = row.unflatten(-1, (layer.heads, -1)).unflatten(0, (2, -1))
            into[layer.cross_attention] = heads.permute(0, 3, 1, 2, 4).flatten(2, 3)
    return projected


def _subjects(base: Base, canvas: EncodedPrompt, regions: Sequence[Prompt]) -> tuple[int, ...]:
    words = dict.fromkeys(prompt.change.class_word for prompt in regions if prompt.change)
    found = (
        places for word in words if word for places in places_of_words(word, canvas.tokens, base)
    )
    return tuple(sorted({place for places in found for place in places}))
