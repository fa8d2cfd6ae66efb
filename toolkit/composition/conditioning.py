"""Everything a layout's passes need that depends on neither the latents nor the timestep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.base import Base
from toolkit.base.text import TokenisedPrompt, encode, encode_layerwise, tokenise
from toolkit.composition.cells import cells_of
from toolkit.composition.layout import Box, Layout, Region
from toolkit.concept import Concept, LowRank
from toolkit.concept.adapter import changes_applied
from toolkit.concept.concept import linear_maps
from toolkit.errors import InputError

POSITIVE, NEGATIVE = "positive", "negative"


@dataclass(frozen=True)
class KeysValues:
    """Keys and values of several prompts at one cross-attention layer.

    keys, values: (prompts, heads, places, width of a head).
    """

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class RegionConditioning:
    """One region, encoded by its own concept.

    places: where the concept's tokens stand in the region's prompt.
    output: the concept's change of to_out.0, by cross-attention path.
    """

    concept: str
    box: Box
    places: tuple[int, ...]
    output: Mapping[str, LowRank]


@dataclass(frozen=True)
class Conditioning:
    """One layout, ready to sample.

    canvas, regional: keys and values by side (positive, negative), then by cross-attention path;
        those of the regions hold one prompt for each region, in the layout's order.
    background: the background concept's changes of the U-Net's linear maps, by path; empty
        without one.
    """

    layout: Layout
    regions: tuple[RegionConditioning, ...]
    canvas: Mapping[str, Mapping[str, KeysValues]]
    regional: Mapping[str, Mapping[str, KeysValues]]
    background: Mapping[str, LowRank]


def check_layout(layout: Layout, base: Base) -> None:
    """Raise InputError when `base` cannot make `layout`: its size, or a box without a cell."""
    multiple = base.size_multiple
    if layout.width % multiple or layout.height % multiple:
        raise InputError(
            f"layout {layout.name}: {layout.width} x {layout.height} pixels; {base.name} needs "
            f"multiples of {multiple}"
        )
    rows, columns = base.guidance_cells(layout.width, layout.height)
    for number, region in enumerate(layout.regions, 1):
        if cells_of(region.box, rows, columns) is None:
            raise InputError(
                f"layout {layout.name}, region {number}: box {list(region.box)} holds no whole "
                f"cell of the {columns} x {rows} guidance grid: make it larger"
            )


@torch.no_grad()
def prepare(base: Base, layout: Layout, concepts: Mapping[str, Concept]) -> Conditioning:
    """Encode the prompts of `layout` and project them to keys and values (eq. 2).

    concepts: by name, every one the layout needs.
    Raises InputError when a concept does not fit the base, a box does not fit the canvas, or a
    prompt is longer than the text encoder's window.
    """
    check_layout(layout, base)
    for name in layout.concepts:
        concepts[name].check_fits(base)
    behind = concepts[layout.background] if layout.background else None
    prompt = layout.prompt
    for region in layout.regions:
        if region.concept != layout.background:
            prompt = concepts[region.concept].describe(prompt)
    paths = [layer.cross_attention for layer in base.layers]
    canvas_prompts = _encode_pair(base, behind, prompt, layout.negative_prompt, 1.0)
    regional = [_encode_region(base, layout, region, concepts) for region in layout.regions]
    linears = linear_maps(base.unet)
    canvas = {
        side: {
            path: _project(base, path, [encoding[index]], [behind], [1.0], linears)
            for index, path in enumerate(paths)
        }
        for side, encoding in zip((POSITIVE, NEGATIVE), canvas_prompts.encodings, strict=True)
    }
    owners = [concepts[region.concept] for region in layout.regions]
    strengths = [region.strength for region in layout.regions]
    sides = {
        side: {
            path: _project(
                base, path, [pair.encodings[number][index] for pair in regional], owners, strengths,
                linears,
            )
            for index, path in enumerate(paths)
        }
        for number, side in enumerate((POSITIVE, NEGATIVE))
        if regional
    }  # fmt: skip
    return Conditioning(
        layout=layout,
        regions=tuple(
            RegionConditioning(
                concept=region.concept,
                box=region.box,
                places=_places(pair.prompt, concepts[region.concept], base),
                output=_placed(base, concepts[region.concept], region.strength, "attn2.to_out.0"),
            )
            for region, pair in zip(layout.regions, regional, strict=True)
        ),
        canvas=canvas,
        regional=sides,
        background=_placed(base, behind, 1.0, "") if behind else {},
    )


@dataclass(frozen=True)
class _EncodedPair:
    prompt: TokenisedPrompt
    encodings: tuple[Tensor, Tensor]


def _encode_region(
    base: Base, layout: Layout, region: Region, concepts: Mapping[str, Concept]
) -> _EncodedPair:
    negative = layout.negative_prompt_of(region)
    return _encode_pair(base, concepts[region.concept], region.prompt, negative, region.strength)


def _encode_pair(
    base: Base, concept: Concept | None, prompt: str, negative: str, strength: float
) -> _EncodedPair:
    """Both prompts as (layers, places, dim); negatives have no layer-wise tokens."""
    layers = len(base.layers)
    names = concept.token_names if concept else ()
    positive = tokenise(concept.expand(prompt) if concept else prompt, base.tokenizer, names)
    negated = tokenise(negative, base.tokenizer)
    for tokenised, text in ((positive, prompt), (negated, negative)):
        if tokenised.lost:
            raise InputError(
                f"prompt {text!r} is longer than the text encoder's window of "
                f"{base.tokenizer.model_max_length} tokens; lost: {tokenised.lost!r}"
            )
    changes = concept.text_encoder if concept else {}
    scale = concept.scale * strength if concept else 0.0
    with changes_applied(base.text_encoder, changes, scale):
        if concept is not None and positive.concept_tokens:
            embeddings = concept.embeddings.to(base.device, base.text_encoder.dtype)
            encoded = encode_layerwise(base.text_encoder, [positive], embeddings)[0]
        else:
            encoded = encode(base.text_encoder, [positive]).expand(layers, -1, -1)
        unwanted = encode(base.text_encoder, [negated]).expand(layers, -1, -1)
    return _EncodedPair(positive, (encoded.to(base.dtype), unwanted.to(base.dtype)))


def _places(prompt: TokenisedPrompt, concept: Concept, base: Base) -> tuple[int, ...]:
    if concept.token_names:
        return tuple(place for place, _ in prompt.concept_tokens)
    trigger = base.tokenizer(concept.trigger_words, add_special_tokens=False).input_ids
    for start in range(1, len(prompt.ids) - len(trigger)):
        if list(prompt.ids[start : start + len(trigger)]) == trigger:
            return tuple(range(start, start + len(trigger)))
    raise InputError(f"concept {concept.name}: its trigger words do not stand in the prompt")


def _project(
    base: Base,
    path: str,
    encodings: Sequence[Tensor],
    concepts: Sequence[Concept | None],
    strengths: Sequence[float],
    linears: Mapping[str, torch.nn.Linear],
) -> KeysValues:
    heads = int(base.unet.get_submodule(path).heads)
    projected = []
    for name in (f"{path}.to_k", f"{path}.to_v"):
        rows = []
        for encoding, concept, strength in zip(encodings, concepts, strengths, strict=True):
            row = linears[name](encoding)
            if concept is not None and name in concept.unet:
                change = concept.unet[name].scaled(concept.scale * strength)
                row = row + change.to(base.device, base.dtype)(encoding)
            rows.append(row.unflatten(-1, (heads, -1)).transpose(0, 1))
        projected.append(torch.stack(rows))
    return KeysValues(keys=projected[0], values=projected[1])


def _placed(base: Base, concept: Concept, strength: float, suffix: str) -> dict[str, LowRank]:
    return {
        path: change.scaled(concept.scale * strength).to(base.device, base.dtype)
        for path, change in concept.unet.items()
        if path.endswith(suffix)
    }
