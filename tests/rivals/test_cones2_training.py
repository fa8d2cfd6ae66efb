"""Cones 2's training and its residual are those that its own code gives, step by step.

A case of several pictures is of the published slices, which then cut the batch and not the places.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.config.cones2 import Cones2Config
from toolkit.training import cones2
from toolkit.training.cones2 import Cones2Training
from toolkit.training.data import TrainingBatch
from toolkit.training.residual import TEMPLATES

TOLERANCE, LOGGED = 2e-5, 3e-6
SLICED, SLICED_LOGGED = 7e-5, 1e-5


def off(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square, in standard deviations."""
    return float((ours - theirs).detach().square().mean().sqrt() / theirs.std())


def batch_of(case: Any, step: int) -> TrainingBatch:
    latents = case.tensors[f"latents_{step}"]
    ones = torch.ones(len(latents), 1, *latents.shape[2:])
    timesteps = torch.tensor(case.facts["timesteps"][step])
    unused = torch.zeros(len(latents), dtype=torch.bool)
    noise, weights = case.tensors[f"noise_{step}"], torch.ones(len(latents))
    return TrainingBatch(latents, noise, timesteps, ones, unused, weights, (), ())


def options_of(facts: dict[str, Any]) -> Cones2Config:
    return Cones2Config(
        steps=facts["steps"],
        batch_size=facts["batch"],
        learning_rate=facts["learning_rate"],
        weight_decay=facts["weight_decay"],
        start_weight=facts["loss_rate_first"],
        rest_weight=facts["loss_rate_second"],
        max_grad_norm=facts["max_grad_norm"],
    )


def sliced(pictures: int) -> Any:
    """What the published slices hold still where there are several pictures: all places of one."""

    def moved(difference: Tensor, word: Sequence[int]) -> tuple[Tensor, Tensor]:
        norm = torch.linalg.vector_norm(difference)
        return norm, norm * (pictures - 1 - len(word)) ** 0.5

    return moved


def test_training(
    cones2_training_case: Any, reference_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, tensors = cones2_training_case.facts, cones2_training_case.tensors
    if facts["batch"] > 1:
        monkeypatch.setattr(cones2, "moved", sliced(facts["batch"]))
    if isinstance(facts["templates"], list):
        assert list(TEMPLATES) == facts["templates"]
    training = Cones2Training(reference_base, "rex", {}, facts["class_word"], options_of(facts))
    assert len(training.word) == facts["token_num"]
    assert off(training.before, tensors["encoding_before"][0]) < TOLERANCE
    alone = facts["batch"] == 1
    precision, of_logged = (TOLERANCE, LOGGED) if alone else (SLICED, SLICED_LOGGED)
    optimizer: Any = training.configure_optimizers()
    assert optimizer.defaults["betas"] == tuple(facts["betas"])
    assert optimizer.defaults["eps"] == facts["eps"]
    for step, logged in enumerate(facts["log"]):
        with reference_base.heard_by_layer():
            losses = training.losses(batch_of(cones2_training_case, step))
        found = {
            "denoising": losses.denoising,
            "first_norm": losses.start,
            "second_norm": losses.rest,
            "loss": training.sum_of(losses),
        }
        for name, value in found.items():
            assert float(value.detach()) == pytest.approx(logged[name], rel=of_logged), (step, name)
        optimizer.zero_grad()
        found["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(training.tuned.parameters(), facts["max_grad_norm"])
        assert float(norm) == pytest.approx(logged["gradient_norm"], rel=of_logged), step
        optimizer.step()
    encoding = reference_base.encode_by(training.tuned, training.prompt)
    assert off(encoding, tensors["encoding_after"][0]) < precision
    trained = dict(training.tuned.named_parameters())
    compared = 0
    for name, value in tensors.items():
        if name.startswith("after."):
            path = name.removeprefix("after.")
            own = trained[path if path in trained else path.removeprefix("text_model.")]
            assert off(own, value) < precision, name
            compared += 1
    assert compared
    residual = training.concept(facts["class_word"]).residual
    assert residual is not None and off(residual, tensors["residual"]) < precision
