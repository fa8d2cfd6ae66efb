"""The methods LoRA-Composer is compared with do what their papers, and other tools, do."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from sample_layouts import PAIR

from toolkit.backbones import Base
from toolkit.backbones.low_rank import linear_maps
from toolkit.backbones.prompts import Prompt
from toolkit.backbones.unet.conditioning import condition
from toolkit.concept import Concept
from toolkit.concept.merge import merged
from toolkit.layout.layout import Layout, Region
from toolkit.methods import KINDS, Method
from toolkit.methods.lora_composite import LoraComposite
from toolkit.methods.lora_switch import LoraSwitch
from toolkit.methods.prompts import joint_prompt, scene_of
from toolkit.methods.reading import one_by_one
from toolkit.sampling import Step, compose

ONE = replace(PAIR, regions=PAIR.regions[:1])


MERGE, PROMPT_ONLY = KINDS["merge"](), KINDS["prompt_only"]()
SWITCH, COMPOSITE = LoraSwitch(period=1, strength=1.0), LoraComposite(strength=1.0)


def first_step(
    base: Base, concepts: dict[str, Concept], layout: Layout, method: Method
) -> torch.Tensor:
    seen: list[Step] = []
    compose(base, method, [method.prepare(base, layout, concepts)], [1], 2, watch=seen.append)
    return seen[0].latents[0]


def sample(
    base: Base, concepts: dict[str, Concept], layout: Layout, method: Method
) -> torch.Tensor:
    return compose(base, method, [method.prepare(base, layout, concepts)], [1], 3)[0]


def test_merging_is_adding_every_lora_to_the_weights(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    ours = sample(reference_base, concepts, PAIR, MERGE)
    unet, text_encoder = copy.deepcopy((reference_base.unet, reference_base.text_encoder))
    for name in ("dog", "cat"):
        own = concepts[name]
        for module, changes in ((unet, own.unet), (text_encoder, own.text_encoder)):
            linears = linear_maps(module)
            for path, pair in changes.items():
                linears[path].weight.data += own.scale * (pair.up @ pair.down).float()
    by_hand = replace(reference_base, unet=unet, text_encoder=text_encoder)
    tokens_only = merged([concepts["dog"], concepts["cat"]], [0.0, 0.0])
    prompt = Prompt("a <dog1> <dog2> and a <cat1> <cat2>", change=tokens_only)
    slow = compose(by_hand, MERGE, [(condition(by_hand, PAIR, prompt),)], [1], 3)[0]
    assert (ours - slow).abs().max() < 1e-4 * slow.std()


def test_prompt_only_knows_no_concept(reference_base: Base, concepts: dict[str, Concept]) -> None:
    plain = Layout(name="plain", prompt="a dog and a cat", width=256, height=192)
    ours = sample(reference_base, concepts, PAIR, PROMPT_ONLY)
    ready = condition(reference_base, plain, Prompt(plain.prompt))
    expected = compose(reference_base, MERGE, [(ready,)], [1], 3)[0]
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("sampler", [SWITCH, COMPOSITE])
def test_with_one_concept_there_is_nothing_to_switch_or_average(
    sampler: Method, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    merge = sample(reference_base, concepts, ONE, MERGE)
    assert (sample(reference_base, concepts, ONE, sampler) - merge).abs().max() < 1e-4 * merge.std()


def test_switching_starts_with_the_first_lora_and_averaging_uses_both(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    def alone(method: Method) -> list[torch.Tensor]:
        found = []
        for view in method.prepare(reference_base, PAIR, concepts):
            seen: list[Step] = []
            compose(reference_base, MERGE, [(view,)], [1], 2, watch=seen.append)
            found.append(seen[0].latents[0])
        return found

    first, _ = alone(SWITCH)
    switched = first_step(reference_base, concepts, PAIR, SWITCH)
    assert (switched - first).abs().max() < 1e-4 * first.std()
    one, other = alone(COMPOSITE)
    averaged = first_step(reference_base, concepts, PAIR, COMPOSITE)
    # The solver's first step is linear in the prediction, so the mean passes through it.
    assert (averaged - (one + other) / 2).abs().max() < 1e-4 * averaged.std()
    assert (one - other).abs().max() > 1e-3 * one.std()


def test_the_subjects_come_before_the_background_when_loras_take_turns(
    concepts: dict[str, Concept],
) -> None:
    at_the_rock = replace(PAIR, prompt="a dog and a cat at <rock>", background="rock")
    order: list[str] = []

    def views(own: Sequence[Concept], strengths: Sequence[float]) -> Sequence[Concept]:
        order.extend(concept.name for concept in own)
        return own

    one_by_one(at_the_rock, concepts, views, 0.8)
    assert order == ["dog", "cat", "rock"]


@pytest.mark.parametrize("sampler", [KINDS["regional_prompt"](), KINDS["regional_tokens"]()])
def test_each_box_hears_its_own_prompt(
    sampler: Method, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    standing = replace(PAIR.regions[0], prompt="<dog>, standing on a rock")
    other = replace(PAIR, regions=(standing, PAIR.regions[1]))
    first = sample(reference_base, concepts, PAIR, sampler)
    assert (
        first - sample(reference_base, concepts, other, sampler)
    ).abs().max() > 1e-3 * first.std()


def test_the_joint_prompt_says_every_concept_once(concepts: dict[str, Concept]) -> None:
    assert joint_prompt(PAIR, concepts) == "a <dog1> <dog2> and a <cat1> <cat2>"
    foxes = replace(
        PAIR,
        prompt="a dog at <rock>",
        background="rock",
        regions=(*PAIR.regions[:1], Region("fox", "<fox>, red", (0.5, 0.1, 0.9, 0.9))),
    )
    assert joint_prompt(foxes, concepts) == (
        "a <dog1> <dog2> at <rock1> <rock2>, <fox1> <fox2>, red"
    )


@pytest.mark.parametrize(
    ("prompt", "scene"),
    [
        ("a dog and a cat on the grass", "on the grass"),
        ("a cat, the dog", ""),
        ("on the beach, a dog, and a cat", "on the beach"),
        ("two dogs at night", "at night"),
        ("a dogma in the snow", "a dogma in the snow"),
        ("on the moon", "on the moon"),
    ],
)
def test_the_empty_scene_is_the_prompt_without_its_subjects(
    prompt: str, scene: str, concepts: dict[str, Concept]
) -> None:
    assert scene_of(replace(PAIR, prompt=prompt), concepts) == scene


def test_the_empty_scene_knows_neither_boxes_nor_concepts(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    layout = replace(PAIR, prompt="a dog and a cat in the park")
    plain = Layout(name="plain", prompt="in the park", width=256, height=192)
    expected = sample(reference_base, {}, plain, PROMPT_ONLY)
    assert torch.equal(sample(reference_base, concepts, layout, KINDS["empty_scene"]()), expected)
