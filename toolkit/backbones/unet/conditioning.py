"""Everything a layout's passes need that depends on neither the latents nor the timestep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.low_rank import changes_applied, linear_maps
from toolkit.backbones.unet.controls import Controls, prepare_controls
from toolkit.backbones.unet.placed import PlacedChanges, side_by_side
from toolkit.backbones.unet.text import TokenisedPrompt, encode, encode_layerwise, tokenise
from toolkit.concept import Concept, LowRank
from toolkit.errors import InputError, shortened
from toolkit.layout.cells import cells_of
from toolkit.layout.layout import Box, Layout
from toolkit.methods.prompts import canvas_prompt, region_prompt

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

    guidance_scale: of classifier-free guidance in the box; None takes the picture's.
    places: where the concept's tokens stand in the region's prompt.
    output: the concept's change of to_out.0, by cross-attention path.
    elsewhere: its changes of maps outside attention, such as feed-forward, by path.
    """

    concept: str
    box: Box
    guidance_scale: float | None
    places: tuple[int, ...]
    output: Mapping[str, LowRank]
    elsewhere: Mapping[str, LowRank]


@dataclass(frozen=True)
class Conditioning:
    """One layout, ready to sample.

    canvas, regional: keys and values by side (positive, negative), then by cross-attention path;
        those of the regions hold one prompt for each region, in the layout's order.
    background: the background concept's changes of the U-Net's linear maps, by path; empty
        without one.
    subjects: where the canvas's prompt has the regions' class words.
    inside: what the regions' concepts change of self-attention's maps and of cross-attention's
        queries, by path.
    controls: what the layout's image conditions add.
    """

    layout: Layout
    regions: tuple[RegionConditioning, ...]
    canvas: Mapping[str, Mapping[str, KeysValues]]
    regional: Mapping[str, Mapping[str, KeysValues]]
    background: Mapping[str, LowRank]
    subjects: tuple[int, ...]
    inside: Mapping[str, PlacedChanges]
    controls: Controls = Controls()


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


def check_prompts(layout: Layout, base: Base, concepts: Mapping[str, Concept]) -> None:
    """Raise InputError when a prompt is longer than the window, or does not call its concept."""
    canvas, regions = voices(layout, concepts)
    for voice in (canvas, *regions):
        positive, _ = _tokenise_pair(base, voice)
        if voice.concept is not None and not _places(positive, voice.concept, base):
            raise InputError(
                f"prompt {shortened(voice.prompt)!r} holds no token of {voice.concept.name}: "
                f"write {voice.concept.placeholder} in it"
            )


@dataclass(frozen=True)
class Voice:
    """A prompt and the concept that encodes it; without a concept the base alone does.

    prompt: with every placeholder written out.
    """

    concept: Concept | None
    prompt: str
    negative_prompt: str
    strength: float = 1.0


def prepare(base: Base, layout: Layout, concepts: Mapping[str, Concept]) -> Conditioning:
    """Encode the prompts of `layout` and project them to keys and values (eq. 2).

    concepts: by name, every one the layout needs.
    Raises InputError when a concept does not fit the base, a box does not fit the canvas, or a
    prompt is longer than the text encoder's window.
    """
    return condition(base, layout, *voices(layout, concepts))


def voices(layout: Layout, concepts: Mapping[str, Concept]) -> tuple[Voice, list[Voice]]:
    """Who speaks on the canvas, and who in each region."""
    regions = [
        Voice(
            concepts[region.concept],
            region_prompt(region, layout, concepts),
            layout.negative_prompt_of(region),
            region.strength,
        )
        for region in layout.regions
    ]
    behind = concepts[layout.background] if layout.background else None
    return Voice(behind, canvas_prompt(layout, concepts), layout.negative_prompt), regions


@torch.no_grad()
def condition(base: Base, layout: Layout, canvas: Voice, regions: Sequence[Voice]) -> Conditioning:
    """What `prepare` makes, for any prompts: one for the canvas, one for each region or none.

    Raises InputError as `prepare` does.
    """
    check_layout(layout, base)
    for voice in (canvas, *regions):
        if voice.concept is not None:
            voice.concept.check_fits(base)
    paths = [layer.cross_attention for layer in base.layers]
    spoken = _encode_pair(base, canvas)
    regional = [_encode_pair(base, voice) for voice in regions]
    linears = linear_maps(base.unet)
    sides = (POSITIVE, NEGATIVE)
    canvas_projected = {
        side: {
            path: _project(base, path, [encoding[index]], [canvas], linears)
            for index, path in enumerate(paths)
        }
        for side, encoding in zip(sides, spoken.encodings, strict=True)
    }
    regional_projected = {
        side: {
            path: _project(
                base, path, [pair.encodings[number][index] for pair in regional], regions, linears
            )
            for index, path in enumerate(paths)
        }
        for number, side in enumerate(sides)
        if regional
    }
    return Conditioning(
        layout=layout,
        regions=tuple(
            RegionConditioning(
                concept=region.concept,
                box=region.box,
                guidance_scale=region.guidance_scale,
                places=_places(pair.prompt, voice.concept, base) if voice.concept else (),
                output=_placed(base, voice, lambda path: path.endswith("attn2.to_out.0")),
                elsewhere=_placed(base, voice, is_elsewhere),
            )
            for region, voice, pair in zip(
                layout.regions if regions else (), regions, regional, strict=True
            )
        ),
        canvas=canvas_projected,
        regional=regional_projected,
        background=_placed(base, canvas, lambda path: True),
        subjects=_subjects(spoken.prompt, regions, base),
        inside=side_by_side([_placed(base, voice, is_inside) for voice in regions]),
        controls=prepare_controls(base, layout, dict(zip(sides, spoken.encodings, strict=True))),
    )


@dataclass(frozen=True)
class _EncodedPair:
    prompt: TokenisedPrompt
    encodings: tuple[Tensor, Tensor]


def _encode_pair(base: Base, voice: Voice) -> _EncodedPair:
    """Both prompts as (layers, places, dim); negatives have no layer-wise tokens."""
    layers, concept = len(base.layers), voice.concept
    positive, negated = _tokenise_pair(base, voice)
    changes = concept.text_encoder if concept else {}
    scale = concept.scale * voice.strength if concept else 0.0
    with changes_applied(base.text_encoder, changes, scale):
        if concept is not None and positive.concept_tokens:
            embeddings = concept.embeddings.to(base.device, base.text_encoder.dtype)
            encoded = encode_layerwise(base.text_encoder, [positive], embeddings)[0]
        else:
            encoded = encode(base.text_encoder, [positive]).expand(layers, -1, -1)
        unwanted = encode(base.text_encoder, [negated]).expand(layers, -1, -1)
    return _EncodedPair(positive, (encoded.to(base.dtype), unwanted.to(base.dtype)))


def _tokenise_pair(base: Base, voice: Voice) -> tuple[TokenisedPrompt, TokenisedPrompt]:
    """Both prompts; InputError when one does not fit into the window."""
    concept = voice.concept
    names = concept.token_names if concept else ()
    positive = tokenise(voice.prompt, base.tokenizer, names)
    negated = tokenise(voice.negative_prompt, base.tokenizer)
    for tokenised, text in ((positive, voice.prompt), (negated, voice.negative_prompt)):
        if tokenised.lost:
            raise InputError(
                f"prompt {shortened(text)!r} is longer than the text encoder's window of "
                f"{base.tokenizer.model_max_length} tokens; lost: {shortened(tokenised.lost)!r}"
            )
    return positive, negated


def _places(prompt: TokenisedPrompt, concept: Concept, base: Base) -> tuple[int, ...]:
    if concept.token_names:
        return tuple(place for place, _ in prompt.concept_tokens)
    found = _places_of_words(concept.trigger_words, prompt, base)
    if not found:
        raise InputError(f"concept {concept.name}: its trigger words do not stand in the prompt")
    return found[0]


def _subjects(prompt: TokenisedPrompt, regions: Sequence[Voice], base: Base) -> tuple[int, ...]:
    words = dict.fromkeys(voice.concept.class_word for voice in regions if voice.concept)
    found = (place for word in words if word for place in _places_of_words(word, prompt, base))
    return tuple(sorted({place for places in found for place in places}))


def _places_of_words(words: str, prompt: TokenisedPrompt, base: Base) -> list[tuple[int, ...]]:
    """Each place of `prompt` that holds `words`: the places of their tokens."""
    wanted = base.tokenizer(words, add_special_tokens=False).input_ids
    return [
        tuple(range(start, start + len(wanted)))
        for start in range(1, len(prompt.ids) - len(wanted))
        if list(prompt.ids[start : start + len(wanted)]) == wanted
    ]


def _project(
    base: Base,
    path: str,
    encodings: Sequence[Tensor],
    voices: Sequence[Voice],
    linears: Mapping[str, torch.nn.Module],
) -> KeysValues:
    heads = int(base.unet.get_submodule(path).heads)
    projected = []
    for name in (f"{path}.to_k", f"{path}.to_v"):
        rows = []
        for encoding, voice in zip(encodings, voices, strict=True):
            row = linears[name](encoding)
            concept = voice.concept
            if concept is not None and name in concept.unet:
                change = concept.unet[name].scaled(concept.scale * voice.strength)
                row = row + change.to(base.device, base.dtype)(encoding)
            rows.append(row.unflatten(-1, (heads, -1)).transpose(0, 1))
        projected.append(torch.stack(rows))
    return KeysValues(keys=projected[0], values=projected[1])


def is_elsewhere(path: str) -> bool:
    """Whether a map of the U-Net lies outside its attention layers."""
    return ".attn1." not in path and ".attn2." not in path


def is_inside(path: str) -> bool:
    """Whether a map of the U-Net is self-attention's, or gives cross-attention its queries."""
    return ".attn1." in path or path.endswith(".attn2.to_q")


def _placed(base: Base, voice: Voice, wanted: Callable[[str], bool]) -> dict[str, LowRank]:
    concept = voice.concept
    if concept is None:
        return {}
    return {
        path: change.scaled(concept.scale * voice.strength).to(base.device, base.dtype)
        for path, change in concept.unet.items()
        if wanted(path)
    }
