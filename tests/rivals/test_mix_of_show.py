"""Mix-of-Show's regional sampling gives the latents that its own code gives."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.low_rank import LowRank, linear_maps
from toolkit.backbones.unet.controls import Controls, weighted
from toolkit.concept import Concept
from toolkit.concept.merge import merged
from toolkit.fusion.fusion import low_rank
from toolkit.layout.layout import Condition, ConditionType, Layout, Region
from toolkit.methods.mix_of_show import MixOfShow
from toolkit.sampling import denoise, initial_noise

TOLERANCE = 2e-5


def off(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square, in standard deviations."""
    return float((ours - theirs).square().mean().sqrt() / theirs.std())


def layout_of(facts: dict[str, Any]) -> Layout:
    height, width = facts["height"], facts["width"]
    regions = []
    for region in facts["regions"]:
        y0, x0, y1, x1 = region["box"]
        name = region["prompt"].partition("1>")[0].removeprefix("<")
        box = (x0 / width, y0 / height, x1 / width, y1 / height)
        regions.append(Region(name, region["prompt"], box, region["negative_prompt"]))
    return Layout("case", facts["prompt"], width, height, tuple(regions), facts["negative_prompt"])


def with_weights(base: Base, fused: Mapping[str, Tensor]) -> Base:
    """The base with the fused weights in place of its own."""
    unet, text_encoder = copy.deepcopy((base.unet, base.text_encoder))
    parts = {"unet.": unet, "text_encoder.text_model.": text_encoder}
    for start, network in parts.items():
        for path, linear in linear_maps(network).items():
            if (weight := fused.get(f"{start}{path}.weight")) is not None:
                linear.weight.data.copy_(weight.view_as(linear.weight))
    return replace(base, unet=unet, text_encoder=text_encoder)


def condition_of(name: str, facts: dict[str, Any]) -> tuple[Condition, Layout]:
    """How an adapter is weighed: everywhere, and in boxes, which here are a layout's regions."""
    boxes = [one["box"] for one in facts["region_weights"]]
    weights = tuple(one["weight"] for one in facts["region_weights"])
    model = Condition(ConditionType.T2I_ADAPTER, name, Path(name), facts["weight"], weights)
    return model, boxes_of(facts["canvas"], boxes)


def boxes_of(canvas: tuple[int, int], boxes: list[list[int]]) -> Layout:
    """A layout that is nothing but boxes."""
    height, width = canvas
    regions = [
        Region("any", "<any>", (x0 / width, y0 / height, x1 / width, y1 / height))
        for y0, x0, y1, x1 in boxes
    ]
    return Layout("boxes", "", width, height, tuple(regions))


def adapters_of(case: Any) -> Controls:
    """What the case's adapters add at each down block, of their unweighted features."""
    facts, added = case.facts, []
    for name, own in facts.get("adapters", {}).items():
        condition, layout = condition_of(name, own | {"canvas": (facts["height"], facts["width"])})
        features = [case.tensors[f"{name}_feature_{level}"] for level in range(4)]
        added.append([weighted(feature, condition, layout) for feature in features])
    return Controls(tuple(sum(level[1:], level[0]) for level in zip(*added, strict=True)))


def latents_of(base: Base, case: Any, concepts: dict[str, Concept]) -> list[Tensor]:
    facts = case.facts
    layout, method = layout_of(facts), MixOfShow(fusion="fused")
    (conditioning,) = method.prepare(base, layout, concepts)
    prepared = (replace(conditioning, controls=adapters_of(case)),)
    process = method.start(base, [prepared], facts["steps"], facts["guidance_scale"])
    noise = initial_noise(base, layout.width, layout.height, [facts["seed"]])
    seen = list(denoise(base, process, noise, facts["steps"]))
    assert [step.timestep for step in seen] == facts["timesteps"]
    return [step.latents for step in seen]


@pytest.fixture
def case(mix_of_show_regional_case: Any) -> Any:
    return mix_of_show_regional_case


def test_what_adapters_add(case: Any) -> None:
    held = [name for name in case.tensors if name.startswith("added_")]
    found = adapters_of(case).adapter
    assert len(found) == len(held)
    for level, added in enumerate(found):
        assert off(added, case.tensors[f"added_{level}"]) < TOLERANCE, level


def test_regional_sampling(case: Any, reference_base: Base, concepts: dict[str, Concept]) -> None:
    names = [region.concept for region in layout_of(case.facts).regions]
    tokens_only = merged([concepts[name] for name in names], [0.0] * len(names))
    base = with_weights(reference_base, case.fused)
    found = latents_of(base, case, {**concepts, "fused": tokens_only})
    for number, latents in enumerate(found):
        assert off(latents, case.tensors[f"latents_{number}"]) < TOLERANCE, number
    assert off(found[-1], case.tensors["final"]) < TOLERANCE


def test_a_fusion_that_acts_as_a_concept_is_the_fused_weights(
    case: Any, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    names = [region.concept for region in layout_of(case.facts).regions]
    tokens_only = merged([concepts[name] for name in names], [0.0] * len(names))

    def changes(network: torch.nn.Module, start: str) -> dict[str, LowRank]:
        return {
            path: low_rank(weight.flatten(1) - linear.weight.flatten(1))
            for path, linear in linear_maps(network).items()
            if (weight := case.fused.get(f"{start}{path}.weight")) is not None
        }

    fused = replace(
        tokens_only,
        unet=changes(reference_base.unet, "unet."),
        text_encoder=changes(reference_base.text_encoder, "text_encoder.text_model."),
    )
    found = latents_of(reference_base, case, {**concepts, "fused": fused})
    assert off(found[-1], case.tensors["final"]) < 1e-4
