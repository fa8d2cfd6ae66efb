"""LoRA Switch and LoRA Composite give the latents that their released code gives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.unet.conditioning import Conditioning, Voice, condition
from toolkit.concept import Concept
from toolkit.layout.layout import Layout
from toolkit.methods.lora_composite import composite, composited
from toolkit.methods.lora_switch import switched, turn
from toolkit.methods.rivals import PLAIN
from toolkit.sampling import initial_noise, predict

TOLERANCE = 2e-5


def assert_close(name: str, ours: Tensor, theirs: Tensor) -> None:
    off = float((ours - theirs).square().mean().sqrt() / theirs.std())
    assert off < TOLERANCE, f"{name}: off by {off:.1e} standard deviations"


def layout_of(facts: dict[str, Any]) -> Layout:
    return Layout("case", facts["prompt"], width=facts["width"], height=facts["height"])


def views_of(base: Base, acting: list[Concept], facts: dict[str, Any]) -> list[Conditioning]:
    return [
        condition(base, layout_of(facts), Voice(own, facts["prompt"], facts["negative_prompt"]), [])
        for own in acting
    ]


def predicted(
    base: Base, latents: Tensor, timestep: Tensor, views: list[Conditioning], scale: float
) -> Tensor:
    """(views, channels, h, w), guided; at scale 0 the negative predictions, at 1 the positive."""
    return predict(base, latents.expand(len(views), -1, -1, -1), timestep, views, PLAIN, scale)


def started(base: Base, case: Any) -> tuple[Any, Tensor]:
    facts = case.facts
    scheduler = base.sampler(facts["steps"])
    assert scheduler.timesteps.tolist() == facts["timesteps"]
    latents = initial_noise(base, facts["width"], facts["height"], [facts["seed"]])
    assert torch.equal(latents, case.tensors["initial"])
    return scheduler, latents * scheduler.init_noise_sigma


@torch.no_grad()
def test_switch(lora_switch_case: Any, reference_base: Base, concepts: dict[str, Concept]) -> None:
    facts, base = lora_switch_case.facts, reference_base
    own = [concepts[name] for name in facts["concepts"]]
    views = views_of(base, switched(own, facts["lora_scale"]), facts)
    scheduler, latents = started(base, lora_switch_case)
    for number, timestep in enumerate(scheduler.timesteps):
        now = turn(number, len(own), facts["switch_step"])
        assert [facts["concepts"][now]] == facts["active_lora_by_unet_call"][number]
        noise = predicted(base, latents, timestep, [views[now]], facts["guidance_scale"])
        latents = scheduler.step(noise, timestep, latents).prev_sample
        assert_close(f"step {number}", latents, lora_switch_case.tensors[f"latents_{number}"])
    assert_close("final", latents, lora_switch_case.tensors["final"])


@torch.no_grad()
def test_composite(
    lora_composite_case: Any, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    facts, base, tensors = lora_composite_case.facts, reference_base, lora_composite_case.tensors
    own = [concepts[name] for name in facts["concepts"]]
    views = views_of(base, composited(own, facts["lora_scale"]), facts)
    scheduler, latents = started(base, lora_composite_case)
    sides = [predicted(base, latents, scheduler.timesteps[0], views, scale) for scale in (0, 1)]
    for index, name in enumerate(facts["concepts"]):
        both = torch.stack([side[index] for side in sides])
        assert_close(f"noise of {name}", both, tensors[f"noise_0_{name}"])
    for number, timestep in enumerate(scheduler.timesteps):
        noise = composite(predicted(base, latents, timestep, views, facts["guidance_scale"]))
        latents = scheduler.step(noise, timestep, latents).prev_sample
        assert_close(f"step {number}", latents, tensors[f"latents_{number}"])
    assert_close("final", latents, tensors["final"])


@pytest.mark.parametrize(
    ("period", "turns"), [(5, [0] * 6 + [1] * 5 + [2] * 5 + [0]), (1, [0, 0, 1, 2, 0, 1])]
)
def test_the_first_lora_has_a_step_more(period: int, turns: list[int]) -> None:
    assert [turn(step, 3, period) for step in range(len(turns))] == turns
