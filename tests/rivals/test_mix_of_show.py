"""Mix-of-Show's regional sampling gives the latents that its own code gives."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.low_rank import LowRank, linear_maps
from toolkit.concept import Concept
from toolkit.concept.merge import merged
from toolkit.fusion.fusion import low_rank
from toolkit.layout.layout import Layout, Region
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


def latents_of(base: Base, facts: dict[str, Any], concepts: dict[str, Concept]) -> list[Tensor]:
    layout, method = layout_of(facts), MixOfShow(fusion="fused")
    prepared = method.prepare(base, layout, concepts)
    process = method.start(base, [prepared], facts["steps"], facts["guidance_scale"])
    noise = initial_noise(base, layout.width, layout.height, [facts["seed"]])
    seen = list(denoise(base, process, noise, facts["steps"]))
    assert [step.timestep for step in seen] == facts["timesteps"]
    return [step.latents for step in seen]


@pytest.fixture
def plain(mix_of_show_regional_case: Any) -> Any:
    if "adapters" in str(mix_of_show_regional_case.facts) or any(
        name.startswith("added_") for name in mix_of_show_regional_case.tensors
    ):
        pytest.skip("a case with image conditions")
    return mix_of_show_regional_case


def test_regional_sampling(plain: Any, reference_base: Base, concepts: dict[str, Concept]) -> None:
    names = [region.concept for region in layout_of(plain.facts).regions]
    tokens_only = merged([concepts[name] for name in names], [0.0] * len(names))
    base = with_weights(reference_base, plain.fused)
    found = latents_of(base, plain.facts, {**concepts, "fused": tokens_only})
    for number, latents in enumerate(found):
        assert off(latents, plain.tensors[f"latents_{number}"]) < TOLERANCE, number
    assert off(found[-1], plain.tensors["final"]) < TOLERANCE


def test_a_fusion_that_acts_as_a_concept_is_the_fused_weights(
    plain: Any, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    names = [region.concept for region in layout_of(plain.facts).regions]
    tokens_only = merged([concepts[name] for name in names], [0.0] * len(names))

    def changes(network: torch.nn.Module, start: str) -> dict[str, LowRank]:
        return {
            path: low_rank(weight.flatten(1) - linear.weight.flatten(1))
            for path, linear in linear_maps(network).items()
            if (weight := plain.fused.get(f"{start}{path}.weight")) is not None
        }

    fused = replace(
        tokens_only,
        unet=changes(reference_base.unet, "unet."),
        text_encoder=changes(reference_base.text_encoder, "text_encoder.text_model."),
    )
    found = latents_of(reference_base, plain.facts, {**concepts, "fused": fused})
    assert off(found[-1], plain.tensors["final"]) < 1e-4
