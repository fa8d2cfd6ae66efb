"""LoRA Switch and LoRA Composite give the latents that their released code gives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base, Conditioning
from toolkit.backbones.prompts import Prompt
from toolkit.backbones.unet.conditioning import condition
from toolkit.concept import Concept
from toolkit.layout.layout import Layout
from toolkit.methods import Method
from toolkit.methods.alternating import composited, switched, turn
from toolkit.methods.lora_composite import LoraComposite
from toolkit.methods.lora_switch import LoraSwitch
from toolkit.methods.plain import ALONE
from toolkit.sampling import denoise, initial_noise

TOLERANCE = 2e-5


def assert_close(name: str, ours: Tensor, theirs: Tensor) -> None:
    off = float((ours - theirs).square().mean().sqrt() / theirs.std())
    assert off < TOLERANCE, f"{name}: off by {off:.1e} standard deviations"


def layout_of(facts: dict[str, Any]) -> Layout:
    return Layout("case", facts["prompt"], width=facts["width"], height=facts["height"])


def views_of(base: Base, acting: list[Concept], facts: dict[str, Any]) -> tuple[Conditioning, ...]:
    return tuple(
        condition(
            base, layout_of(facts), Prompt(facts["prompt"], facts["negative_prompt"], change=own)
        )
        for own in acting
    )


def strengths(facts: dict[str, Any]) -> list[float]:
    return [facts["lora_scale"]] * len(facts["concepts"])


def follow(base: Base, method: Method, views: tuple[Conditioning, ...], case: Any) -> None:
    """Every step's latents are the case's."""
    facts = case.facts
    noise = initial_noise(base, facts["width"], facts["height"], [facts["seed"]])
    assert torch.equal(noise, case.tensors["initial"])
    process = method.start(base, [views], facts["steps"], facts["guidance_scale"])
    seen = list(denoise(base, process, noise, facts["steps"]))
    assert [step.timestep for step in seen] == facts["timesteps"]
    for step in seen:
        assert_close(f"step {step.number}", step.latents, case.tensors[f"latents_{step.number}"])
    assert_close("final", seen[-1].latents, case.tensors["final"])


def test_switch(lora_switch_case: Any, reference_base: Base, concepts: dict[str, Concept]) -> None:
    facts = lora_switch_case.facts
    own = [concepts[name] for name in facts["concepts"]]
    turns = [turn(step, len(own), facts["switch_step"]) for step in range(facts["steps"])]
    acting = [[facts["concepts"][now]] for now in turns]
    assert acting == facts["active_lora_by_unet_call"]
    views = views_of(reference_base, switched(own, strengths(facts)), facts)
    follow(reference_base, LoraSwitch(period=facts["switch_step"]), views, lora_switch_case)


@torch.no_grad()
def test_composite(
    lora_composite_case: Any, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    facts, tensors = lora_composite_case.facts, lora_composite_case.tensors
    own = [concepts[name] for name in facts["concepts"]]
    views = views_of(reference_base, composited(own, strengths(facts)), facts)
    passes = reference_base.passes(views, ALONE)
    scheduler = reference_base.scheduler(facts["steps"])
    latents = tensors["initial"] * scheduler.init_noise_sigma
    everyone = latents.expand(len(views), -1, -1, -1)
    sides = [passes.predict(everyone, scheduler.timesteps[0], scale) for scale in (0, 1)]
    for index, name in enumerate(facts["concepts"]):
        both = torch.stack([side[index] for side in sides])
        assert_close(f"noise of {name}", both, tensors[f"noise_0_{name}"])
    follow(reference_base, LoraComposite(), views, lora_composite_case)


@pytest.mark.parametrize(
    ("period", "turns"), [(5, [0] * 6 + [1] * 5 + [2] * 5 + [0]), (1, [0, 0, 1, 2, 0, 1])]
)
def test_the_first_lora_has_a_step_more(period: int, turns: list[int]) -> None:
    assert [turn(step, 3, period) for step in range(len(turns))] == turns
