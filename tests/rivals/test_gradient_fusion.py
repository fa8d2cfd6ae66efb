"""Gradient fusion gives what Mix-of-Show's own code gives, stage by stage.

Each stage is given the reference's results of the stages before. Inputs are held to the precision
of the cases' README; weights that least squares does not determine well are held by their loss.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.backbones.low_rank import LowRank, linear_maps
from toolkit.backbones.unet.linear_inputs import input_name, reads_text
from toolkit.concept import Concept
from toolkit.config import FusionConfig, FusionScheduler
from toolkit.fusion.closed_form import gram, solve_closed_form
from toolkit.fusion.evidence import cross_evidence, picture_evidence, text_evidence
from toolkit.fusion.fusion import changed_maps, low_rank, own_weight, scheduler_of
from toolkit.fusion.lbfgs import solve_lbfgs

FusedText = Mapping[Part, Mapping[str, LowRank]]

INPUTS, LOSSES_AT_START = 2e-5, 3e-6


def off(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square, in standard deviations."""
    return float((ours - theirs).square().mean().sqrt() / theirs.std())


@dataclass(frozen=True)
class Seen:
    """What one stage's maps were given under each concept, and what the reference made of them."""

    base: Base
    part: str
    case: Any
    concepts: list[Concept]
    paths: tuple[str, ...]
    rows: list[dict[str, Tensor]]

    @property
    def prefix(self) -> str:
        return "text_model." if self.part == "text_encoder" else ""

    def weight(self, path: str) -> Tensor:
        return linear_maps(getattr(self.base, self.part))[path].weight.flatten(1)

    def own(self, path: str) -> list[Tensor]:
        weight = self.weight(path)
        return [own_weight(weight, c, getattr(c, self.part).get(path)) for c in self.concepts]

    def inputs(self, path: str) -> list[Tensor]:
        return [rows[input_name(path)] for rows in self.rows]

    def targets(self, path: str) -> Tensor:
        pairs = zip(self.inputs(path), self.own(path), strict=True)
        return torch.cat([x @ w.T for x, w in pairs])

    def closed_form(self, path: str) -> Tensor:
        grams = [gram(rows) for rows in self.inputs(path)]
        return solve_closed_form(self.weight(path), self.own(path), grams)

    def lbfgs(self, path: str, iterations: int) -> Tensor:
        inputs = torch.cat(self.inputs(path))
        return solve_lbfgs(self.weight(path), inputs, self.targets(path), iterations)

    def loss(self, path: str, weight: Tensor) -> float:
        wrong = torch.cat(self.inputs(path)) @ weight.T - self.targets(path)
        return float(wrong.square().mean())

    def facts(self, path: str) -> dict[str, Any]:
        return self.case.facts["layers"][f"{self.prefix}{path}.weight"]

    def fused(self, path: str) -> Tensor:
        start = "text_encoder." if self.part == "text_encoder" else "unet."
        return self.case.fused[f"{start}{self.prefix}{path}.weight"]

    def picked(self) -> dict[str, str]:
        """The case's own names of those maps of this stage that it holds tensors of."""
        chosen = self.case.facts["picked"]
        paths = {f"{self.prefix}{path}.weight": path for path in self.paths}
        return {name: paths[path] for name, path in chosen.items() if path in paths}


def collected(look: Any) -> dict[str, Tensor]:
    rows: dict[str, list[Tensor]] = {}
    look(lambda name, given: rows.setdefault(name, []).append(given))
    return {name: torch.cat(parts) for name, parts in rows.items()}


@pytest.fixture(scope="module")
def acting(gradient_fusion_case: Any, concepts: dict[str, Concept]) -> list[Concept]:
    alpha = gradient_fusion_case.facts["alpha"]
    own = [concepts[name] for name in gradient_fusion_case.facts["concepts"]]
    return [replace(concept, scale=alpha * concept.scale) for concept in own]


@pytest.fixture(scope="module")
def text_encoder(gradient_fusion_case: Any, reference_base: Base) -> FusedText:
    linears = linear_maps(reference_base.text_encoder)
    start = "text_encoder.text_model."
    changes = {
        path: low_rank(gradient_fusion_case.fused[f"{start}{path}.weight"] - linear.weight)
        for path, linear in linears.items()
        if f"{start}{path}.weight" in gradient_fusion_case.fused
    }
    return {Part.TEXT_ENCODER: changes}


@pytest.fixture(scope="module")
def keys_values(gradient_fusion_case: Any, reference_base: Base) -> Mapping[str, LowRank]:
    return {
        path: low_rank(gradient_fusion_case.fused[f"unet.{path}.weight"] - linear.weight)
        for path, linear in linear_maps(reference_base.unet).items()
        if reads_text(path)
    }


@pytest.fixture(scope="module")
def text(gradient_fusion_case: Any, reference_base: Base, acting: list[Concept]) -> Seen:
    paths = changed_maps(acting).text[Part.TEXT_ENCODER]
    names = {input_name(path) for path in paths}
    rows = [
        collected(partial(text_evidence, reference_base, own, Part.TEXT_ENCODER, names))
        for own in acting
    ]
    return Seen(reference_base, "text_encoder", gradient_fusion_case, acting, paths, rows)


@pytest.fixture(scope="module")
def cross(
    gradient_fusion_case: Any,
    reference_base: Base,
    acting: list[Concept],
    text_encoder: FusedText,
) -> Seen:
    rows = [collected(partial(cross_evidence, reference_base, own, text_encoder)) for own in acting]
    paths = changed_maps(acting).keys_values
    return Seen(reference_base, "unet", gradient_fusion_case, acting, paths, rows)


@pytest.fixture(scope="module")
def picture(
    gradient_fusion_case: Any,
    reference_base: Base,
    acting: list[Concept],
    text_encoder: FusedText,
    keys_values: Mapping[str, LowRank],
) -> Seen:
    paths = changed_maps(acting).others
    names = {input_name(path) for path in paths}
    case, rows = gradient_fusion_case, []
    for own in acting:
        for scheduler in schedulers_of(case.facts, reference_base):
            seen: dict[str, list[Tensor]] = {}
            latents = picture_evidence(
                reference_base,
                own,
                text_encoder,
                keys_values,
                case.tensors[f"noise_{own.name}"],
                scheduler,
                names,
                lambda: None,
                lambda name, given, seen=seen: seen.setdefault(name, []).append(given),
            )
            away = off(latents, case.tensors[f"decoded_{own.name}"])
            if away < INPUTS:
                break
        assert away < INPUTS, f"the picture of {own.name}"
        rows.append({name: torch.cat(parts) for name, parts in seen.items()})
    return Seen(reference_base, "unet", case, acting, paths, rows)


def schedulers_of(facts: dict[str, Any], base: Base) -> Iterator[Any]:
    """The case's scheduler; a case does not say whether its DDIM clips, so both kinds are given."""
    if "DDIM" in facts["scheduler"]:
        usual = FusionConfig(scheduler=FusionScheduler.DDIM, steps=facts["steps"])
        offset = facts["timesteps"][-1]
        for found in (scheduler_of(base, usual), DDIMScheduler.from_config(base.scheduler_config)):
            scheduler = DDIMScheduler.from_config(found.config, steps_offset=offset)
            scheduler.set_timesteps(facts["steps"])
            assert scheduler.timesteps.tolist() == facts["timesteps"]
            yield scheduler
    else:
        scheduler = scheduler_of(base, FusionConfig(steps=facts["steps"]))
        assert scheduler.timesteps.tolist() == facts["timesteps"]
        yield scheduler


def check_rows(seen: Seen) -> None:
    """What the stage was given, map by map, and what the base makes of it."""
    for path in seen.paths:
        facts = seen.facts(path)
        assert sum(map(len, seen.inputs(path))) == facts["rows"], path
        start = seen.loss(path, seen.weight(path))
        assert start == pytest.approx(facts["mse_start"], rel=LOSSES_AT_START), path
    tensors = seen.case.tensors
    for name, path in seen.picked().items():
        inputs, targets = torch.cat(seen.inputs(path)), seen.targets(path)
        exact = inputs.double()
        ours = {
            "inputs": inputs,
            "targets": targets,
            "inputs_rows_0_63": inputs[:64],
            "inputs_last_64_rows": inputs[-64:],
            "gram": exact.T @ exact,
            "cross": targets.double().T @ exact,
        }
        for what, tensor in ours.items():
            if f"{name}_{what}" in tensors:
                assert off(tensor, tensors[f"{name}_{what}"]) < INPUTS, f"{name}_{what}"


def test_the_text_encoders_rows(text: Seen) -> None:
    check_rows(text)


def check_published_solver(seen: Seen, iterations: int, precision: float) -> None:
    """L-BFGS on the very rows that the reference's had, where the case holds them."""
    tensors = seen.case.tensors
    for name, path in seen.picked().items():
        if f"{name}_inputs" in tensors:
            inputs, targets = tensors[f"{name}_inputs"], tensors[f"{name}_targets"]
            weight = solve_lbfgs(seen.weight(path), inputs, targets, iterations)
            assert off(weight, tensors[f"{name}_fused"]) < precision, path


def test_the_text_encoders_weights(text: Seen) -> None:
    check_published_solver(text, 500, 5e-4)
    for path in text.paths:
        for weight in (text.lbfgs(path, 500), text.closed_form(path)):
            assert off(weight, text.fused(path)) < 4e-3, path
            loss = text.loss(path, weight)
            assert loss == pytest.approx(text.facts(path)["mse_fused"], rel=5e-5), path


def test_the_rows_of_cross_attention(cross: Seen) -> None:
    check_rows(cross)


def test_cross_attentions_weights(cross: Seen) -> None:
    for path in cross.paths:
        for weight in (cross.lbfgs(path, 500), cross.closed_form(path)):
            assert off(weight, cross.fused(path)) < 1e-5, path
            assert cross.loss(path, weight) < 1e-11, path


def test_the_pictures_rows(picture: Seen) -> None:
    check_rows(picture)


def test_the_published_solver_on_the_pictures(picture: Seen) -> None:
    for path in picture.picked().values():
        loss = picture.loss(path, picture.lbfgs(path, 50))
        assert loss == pytest.approx(picture.facts(path)["mse_fused"], rel=5e-3), path
    check_published_solver(picture, 50, 4e-4)


def test_the_closed_form_is_never_worse_than_the_published_solver(picture: Seen) -> None:
    for path in picture.paths:
        loss = picture.loss(path, picture.closed_form(path))
        assert 0.69 < loss / picture.facts(path)["mse_fused"] < 1 + 1e-5, path
