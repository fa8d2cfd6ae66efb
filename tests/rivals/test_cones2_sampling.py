"""Cones 2's sampling gives what its own code gives: encodings, scores, probabilities, latents."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.backbones.unet.steering import region_weights, steered_probabilities
from toolkit.concept import Concept
from toolkit.layout.layout import Layout, Region
from toolkit.methods.cones2 import Cones2
from toolkit.methods.euler import sigmas_of
from toolkit.methods.recurring import Recurring
from toolkit.sampling import denoise, initial_noise

TOLERANCE, OF_PROBABILITIES = 2e-5, 1.3e-4
THINNED = "_every_16th_cell"


def assert_close(what: str, ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    off = float((ours - theirs).square().mean().sqrt() / theirs.std())
    assert off < tolerance, f"{what}: {off:.1e} of its deviation"


class Following(Recurring):
    """The same, with the noise that the case drew before a step is taken again."""

    case: Any

    def fresh_noise(self, latents: Tensor, level: int) -> Tensor:
        noise: Tensor = self.case.tensors[f"recurrence_noise_{level}"]
        return noise


def concept_of(word: str, residual: Tensor, base: Base) -> Concept:
    nothing = torch.zeros(0, *base.embedding_shapes[Part.TEXT_ENCODER])
    return Concept(
        f"own-{word}",
        nothing,
        (),
        {},
        {},
        class_word=word,
        trigger_words=word,
        residual=residual[None],
    )


@pytest.fixture
def method(cones2_sampling_case: Any) -> Cones2:
    facts = cones2_sampling_case.facts
    (inside,) = {subject["weight"] for subject in facts["subjects"]}
    return Cones2(
        guidance_steps=facts["guidance_steps"],
        weight=facts["guidance_weight"],
        inside=inside,
        outside=facts["weight_negative"],
    )


@pytest.fixture
def process(cones2_sampling_case: Any, reference_base: Base, method: Cones2) -> Following:
    facts, tensors = cones2_sampling_case.facts, cones2_sampling_case.tensors
    words = [subject["word"] for subject in facts["subjects"]]
    concepts = [concept_of(word, tensors[f"residual_{word}"], reference_base) for word in words]
    side = facts["resolution"]
    regions = [
        Region(concept.name, concept.placeholder, tuple(edge / side for edge in subject["box"]))
        for concept, subject in zip(concepts, facts["subjects"], strict=True)
    ]
    layout = Layout("case", facts["prompt"], side, side, tuple(regions))
    named = {concept.name: concept for concept in concepts}
    (conditioning,) = method.prepare(reference_base, layout, named)
    made = Following(
        reference_base, [conditioning], method, facts["steps"], facts["guidance_scale"]
    )
    made.case = cones2_sampling_case
    return made


def test_words_are_found_and_residuals_added(
    cones2_sampling_case: Any, reference_base: Base, process: Following
) -> None:
    facts, tensors = cones2_sampling_case.facts, cones2_sampling_case.tensors
    (conditioning,) = process.passes.conditionings
    assert [one.places for one in conditioning.steered] == [
        (subject["place"],) for subject in facts["subjects"]
    ]
    for side, name in enumerate(("unconditional", "condition")):
        for path in (layer.cross_attention for layer in reference_base.layers):
            own: Any = reference_base.unet.get_submodule(path)
            keys = own.to_k(tensors[name][0]).unflatten(-1, (own.heads, -1)).transpose(0, 1)
            assert_close(f"{name}, {path}", conditioning.keys[path][side], keys)


def test_the_schedules(cones2_sampling_case: Any, reference_base: Base, process: Following) -> None:
    facts = cones2_sampling_case.facts
    signal = reference_base.noise_schedule().signal
    found = sigmas_of(signal, facts["steps"])
    assert found.timesteps.tolist() == pytest.approx(facts["timesteps"], rel=1e-6)
    assert found.levels.tolist() == pytest.approx(facts["sigmas"], rel=1e-6)
    guiding = sigmas_of(signal, facts["guidance_steps"]).levels
    assert guiding.tolist() == pytest.approx(facts["guidance_sigmas"], rel=1e-6)
    calls = facts["unet_calls"][::2]  # theirs has a pass for each side
    assert process.scheduler.timesteps.tolist() == pytest.approx(
        [call["timestep"] for call in calls], rel=1e-6
    )
    for call, level in zip(calls, process.order, strict=True):
        guided = call["guidance_sigma"] is not None
        assert (process.strength(level) > 0) == guided
        if guided:
            assert process.guiding[level] == pytest.approx(call["guidance_sigma"], rel=1e-6)


def test_the_weights_of_words(cones2_sampling_case: Any, method: Cones2) -> None:
    facts, tensors = cones2_sampling_case.facts, cones2_sampling_case.tensors
    side = facts["resolution"]
    held = [name for name in tensors if name.startswith("weights_")]
    assert held
    for name in held:
        height, width = map(int, name.removeprefix("weights_").split("x"))
        for column, subject in enumerate(facts["subjects"]):
            box: Any = tuple(edge / side for edge in subject["box"])
            size = (height, width)
            own = region_weights(box, (side, side), size, method.inside, method.outside)
            torch.testing.assert_close(own, tensors[name][..., column], rtol=1e-6, atol=1e-5)


@contextmanager
def queries(base: Base, path: str) -> Iterator[list[Tensor]]:
    """What a cross-attention layer asks with, (rows, heads, cells, width), at each pass."""
    seen: list[Tensor] = []
    own: Any = base.unet.get_submodule(path)

    def keep(_module: object, _inputs: object, output: Tensor) -> None:
        seen.append(output.unflatten(-1, (own.heads, -1)).transpose(1, 2))

    handle = own.to_q.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


@torch.no_grad()
def test_scores_and_probabilities(
    cones2_sampling_case: Any, reference_base: Base, process: Following
) -> None:
    facts, tensors = cones2_sampling_case.facts, cones2_sampling_case.tensors
    euler = process.scheduler
    latents = tensors["initial"] * euler.init_noise_sigma
    with queries(reference_base, facts["layer"]) as seen:
        process.predict(latents, 0, euler.timesteps[0])
    (batch_and_inputs,) = process.passes._made.values()
    inputs = batch_and_inputs[1].cross_attention[facts["layer"]]
    assert inputs.steering is not None
    scores = seen[0] @ inputs.keys.transpose(-1, -2)
    layer: Any = reference_base.unet.get_submodule(facts["layer"])
    found = steered_probabilities(scores, inputs.steering, process.strength(0), layer.scale)
    for side, name in enumerate(("unconditional", "condition")):
        for what, ours, tolerance in (
            ("scores", scores, TOLERANCE),
            ("probabilities", found, OF_PROBABILITIES),
        ):
            whole = f"{name}_pass_{what}"
            if whole in tensors:
                assert_close(whole, ours[side], tensors[whole], tolerance)
            else:
                assert_close(whole, ours[side][:, ::16], tensors[whole + THINNED], tolerance)


@torch.no_grad()
def test_what_is_predicted_first(
    cones2_sampling_case: Any, reference_base: Base, process: Following
) -> None:
    tensors = cones2_sampling_case.tensors
    euler = process.scheduler
    latents = tensors["initial"] * euler.init_noise_sigma
    for scale, name in enumerate(("unconditional", "condition")):
        process.scale = float(scale)
        noise = process.predict(latents, 0, euler.timesteps[0])
        assert_close(name, noise, tensors[f"noise_0_{name}"])


def test_sampling(cones2_sampling_case: Any, reference_base: Base, process: Following) -> None:
    facts, tensors = cones2_sampling_case.facts, cones2_sampling_case.tensors
    side, steps = facts["resolution"], facts["steps"]
    noise = initial_noise(reference_base, side, side, [facts["seed"]])
    assert torch.equal(noise, tensors["initial"])
    seen = list(denoise(reference_base, process, noise, steps))
    assert len(seen) == len(process.order) == steps + min(steps, facts["guidance_steps"])
    for number, (step, level) in enumerate(zip(seen, process.order, strict=True)):
        again = int(number > 0 and process.order[number - 1] == level)
        assert_close(f"step {number}", step.latents, tensors[f"latents_{level}_{again}"])
    assert_close("final", seen[-1].latents, tensors["final"])
