"""How methods read a layout: the prompts they make of it, and under which concept each is read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from toolkit.backbones import Backbone, Conditioning
from toolkit.backbones.prompts import Prompt, Subject
from toolkit.concept import Concept
from toolkit.concept.merge import merged
from toolkit.concept.stored import CONES2
from toolkit.layout.layout import Layout, Region
from toolkit.layout.strength import largest
from toolkit.methods.prompts import (
    canvas_prompt,
    described,
    joint_prompt,
    mentions_of,
    region_prompt,
    scene_of,
)


def encode(
    base: Backbone, layout: Layout, canvas: Prompt, regions: Sequence[Prompt] = ()
) -> Conditioning:
    """The layout with these prompts, ready to sample.

    Raises InputError as `Method.prepare` does.
    """
    for prompt in (canvas, *regions):
        if isinstance(prompt.change, Concept):
            prompt.change.check_fits(base)
    return base.condition(layout, canvas, regions)


def own_prompts(layout: Layout, concepts: Mapping[str, Concept]) -> tuple[Prompt, list[Prompt]]:
    """The canvas with class words, and each region in its own concept's words."""
    regions = [own_prompt(layout, region, concepts) for region in layout.regions]
    behind = concepts[layout.background] if layout.background else None
    return Prompt(canvas_prompt(layout, concepts), layout.negative_prompt, behind), regions


def own_prompt(layout: Layout, region: Region, concepts: Mapping[str, Concept]) -> Prompt:
    """A region in its own concept's words, at its strength."""
    return Prompt(
        region_prompt(region, layout, concepts),
        layout.negative_prompt_of(region),
        concepts[region.concept],
        region.strength,
    )


def under(change: Concept | None, prompt: Prompt) -> Prompt:
    """The same prompt, read under another concept."""
    return replace(prompt, change=change, strength=1.0)


def described_prompt(layout: Layout, concepts: Mapping[str, Concept]) -> Prompt:
    """The layout's prompt as the base alone can read it."""
    own = [concepts[name] for name in layout.concepts]
    return Prompt(described(layout.prompt, own), layout.negative_prompt)


def empty_scene(layout: Layout, concepts: Mapping[str, Concept]) -> Prompt:
    """The layout's prompt without its subjects."""
    return Prompt(scene_of(layout, concepts), layout.negative_prompt)


def place(layout: Layout, concepts: Mapping[str, Concept]) -> Prompt:
    """The layout's prompt without its subjects, read under the background's concept, if any."""
    behind = concepts[layout.background] if layout.background else None
    return Prompt(scene_of(layout, concepts, behind), layout.negative_prompt, behind)


def merged_concept(layout: Layout, concepts: Mapping[str, Concept]) -> Concept | None:
    """All of a layout's concepts as one, each with the largest strength that it has there."""
    own = [concepts[name] for name in layout.concepts]
    return merged(own, [_strength(layout, name) for name in layout.concepts]) if own else None


def joint(layout: Layout, concepts: Mapping[str, Concept], change: Concept | None) -> Prompt:
    """One prompt with every region's tokens in it, read under `change`."""
    return Prompt(joint_prompt(layout, concepts), layout.negative_prompt, change)


def with_subjects(layout: Layout, concepts: Mapping[str, Concept]) -> Prompt:
    """The layout's prompt in class words, each concept's residual at a mention of its own word.

    A region whose class word the prompt lacks has its own prompt put behind, in class words.
    Raises InputError for a concept without a residual.
    """
    named = ([(layout.background, None)] if layout.background else []) + [
        (region.concept, region) for region in layout.regions if region.concept != layout.background
    ]
    for name, _ in named:
        concepts[name].check_recipe(CONES2)
    own = [concepts[name] for name in layout.concepts]
    text = described(layout.prompt, own)
    subjects: list[Subject] = []
    for name, region in named:
        concept = concepts[name]
        word, residual = concept.class_word, concept.residual
        assert residual is not None
        earlier = sum(subject.word == word for subject in subjects)
        if region is not None and mentions_of(word, text) <= earlier:
            text = f"{text}, {described(region.prompt, own)}"
        strength = 1.0 if region is None else largest(region.strength)
        subjects.append(Subject(word, strength * residual.float(), region))
    return Prompt(text, layout.negative_prompt, subjects=tuple(subjects))


def regional_prompts(
    layout: Layout, concepts: Mapping[str, Concept], words: bool
) -> tuple[Prompt, list[Prompt]]:
    """The canvas and each region, all read under the merged concepts.

    words: class words in place of the concepts' own.
    """
    own = [concepts[name] for name in layout.concepts]
    all_concepts = merged_concept(layout, concepts)
    regions = [
        Prompt(
            described(region.prompt, own) if words else region_prompt(region, layout, concepts),
            layout.negative_prompt_of(region),
            all_concepts,
        )
        for region in layout.regions
    ]
    canvas = described(layout.prompt, own) if words else joint_prompt(layout, concepts)
    return Prompt(canvas, layout.negative_prompt, all_concepts), regions


def one_by_one(
    layout: Layout,
    concepts: Mapping[str, Concept],
    views: Callable[[Sequence[Concept], Sequence[float]], Sequence[Concept]],
    strength: float,
) -> list[Prompt]:
    """The joint prompt once for each concept of the layout, its regions' before its background.

    views: what acts in each one's turn, from all concepts and their strengths. strength: of all,
    beside what the layout says.
    """
    names = [name for name in layout.concepts if name != layout.background]
    names += [layout.background] if layout.background else []
    if not names:
        return [described_prompt(layout, concepts)]
    strengths = [strength * _strength(layout, name) for name in names]
    acting = views([concepts[name] for name in names], strengths)
    return [joint(layout, concepts, one) for one in acting]


def _strength(layout: Layout, name: str) -> float:
    """The largest strength at which the layout uses a concept; a background's is 1."""
    own = [largest(region.strength) for region in layout.regions if region.concept == name]
    return max([*own, 1.0] if name == layout.background else own)
