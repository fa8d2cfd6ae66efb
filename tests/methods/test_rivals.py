"""The methods LoRA-Composer is compared with do what their papers, and other tools, do."""

import copy
from dataclasses import replace

import pytest
import torch
from sample_layouts import PAIR

from toolkit.backbones import Base
from toolkit.backbones.low_rank import linear_maps
from toolkit.backbones.unet.conditioning import Voice, condition
from toolkit.concept import Concept
from toolkit.concept.merge import merged
from toolkit.layout.layout import Layout, Region
from toolkit.methods.method import Sampler
from toolkit.methods.rivals import PLAIN, compose_rival, joint_prompt, prepare_rival, scene_of
from toolkit.sampling import Step, compose

ONE = replace(PAIR, regions=PAIR.regions[:1])


def first_step(
    base: Base, concepts: dict[str, Concept], layout: Layout, sampler: Sampler
) -> torch.Tensor:
    seen: list[Step] = []
    views = prepare_rival(base, layout, concepts, sampler)
    compose_rival(base, [views], [1], sampler, 2, watch=seen.append)
    return seen[0].latents[0]


def sample(
    base: Base, concepts: dict[str, Concept], layout: Layout, sampler: Sampler
) -> torch.Tensor:
    views = prepare_rival(base, layout, concepts, sampler)
    return compose_rival(base, [views], [1], sampler, 3)[0]


def test_merging_is_adding_every_lora_to_the_weights(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    ours = sample(reference_base, concepts, PAIR, Sampler.MERGE)
    unet, text_encoder = copy.deepcopy((reference_base.unet, reference_base.text_encoder))
    for name in ("dog", "cat"):
        own = concepts[name]
        for module, changes in ((unet, own.unet), (text_encoder, own.text_encoder)):
            linears = linear_maps(module)
            for path, pair in changes.items():
                linears[path].weight.data += own.scale * (pair.up @ pair.down).float()
    by_hand = replace(reference_base, unet=unet, text_encoder=text_encoder)
    tokens_only = merged([concepts["dog"], concepts["cat"]], [0.0, 0.0])
    voice = Voice(tokens_only, "a <dog1> <dog2> and a <cat1> <cat2>", "")
    slow = compose(by_hand, [condition(by_hand, PAIR, voice, [])], [1], PLAIN, 3)[0]
    assert (ours - slow).abs().max() < 1e-4 * slow.std()


def test_prompt_only_knows_no_concept(reference_base: Base, concepts: dict[str, Concept]) -> None:
    plain = Layout(name="plain", prompt="a dog and a cat", width=256, height=192)
    ours = sample(reference_base, concepts, PAIR, Sampler.PROMPT_ONLY)
    voice = Voice(None, plain.prompt, "")
    expected = compose(
        reference_base, [condition(reference_base, plain, voice, [])], [1], PLAIN, 3
    )[0]
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("sampler", [Sampler.LORA_SWITCH, Sampler.LORA_COMPOSITE])
def test_with_one_concept_there_is_nothing_to_switch_or_average(
    sampler: Sampler, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    merge = sample(reference_base, concepts, ONE, Sampler.MERGE)
    assert (sample(reference_base, concepts, ONE, sampler) - merge).abs().max() < 1e-4 * merge.std()


def test_switching_starts_with_the_first_lora_and_averaging_uses_both(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    alone = []
    for weights in ([1.0, 0.0], [0.0, 1.0]):
        single = merged([concepts["dog"], concepts["cat"]], weights)
        view = condition(reference_base, PAIR, Voice(single, joint_prompt(PAIR, concepts), ""), [])
        seen: list[Step] = []
        compose(reference_base, [view], [1], PLAIN, 2, watch=seen.append)
        alone.append(seen[0].latents[0])
    switched = first_step(reference_base, concepts, PAIR, Sampler.LORA_SWITCH)
    averaged = first_step(reference_base, concepts, PAIR, Sampler.LORA_COMPOSITE)
    assert (switched - alone[0]).abs().max() < 1e-4 * alone[0].std()
    # The solver's first step is linear in the prediction, so the mean passes through it.
    assert (averaged - (alone[0] + alone[1]) / 2).abs().max() < 1e-4 * averaged.std()
    assert (alone[0] - alone[1]).abs().max() > 1e-3 * alone[0].std()


@pytest.mark.parametrize("sampler", [Sampler.REGIONAL_PROMPT, Sampler.REGIONAL_TOKENS])
def test_each_box_hears_its_own_prompt(
    sampler: Sampler, reference_base: Base, concepts: dict[str, Concept]
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
    expected = sample(reference_base, {}, plain, Sampler.PROMPT_ONLY)
    assert torch.equal(sample(reference_base, concepts, layout, Sampler.EMPTY_SCENE), expected)
