"""The composer computes what the published sampler computes, case by case."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from toolkit.backbones import Base, load_base
from toolkit.concept.formats.mix_of_show import load_mix_of_show
from toolkit.layout.layout import Layout, Region
from toolkit.methods import LoraComposer
from toolkit.methods.refining import Refining
from toolkit.sampling import Step, denoise, initial_noise

REFERENCE = Path(os.environ.get("TOOLKIT_REFERENCE_DIR", Path(__file__).parent / "reference"))
CASES = sorted((REFERENCE / "cases").glob("*.json"))
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Run:
    """One case as the composer ran it, beside the golden numbers."""

    steps: list[Step]
    final: Tensor
    golden_numbers: dict
    golden: dict[str, Tensor]


def test_there_are_cases() -> None:
    assert CASES, f"no cases in {REFERENCE}"


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(REFERENCE / "model", "reference", guidance_downscale=4)


def layout_of(case: dict) -> Layout:
    height, width = case["height"], case["width"]
    regions = []
    for concept, region in zip(case["foreground"], case["regions"], strict=True):
        y0, x0, y1, x1 = region["box"]
        regions.append(
            Region(
                concept=concept,
                prompt=region["prompt"],
                negative_prompt=region["negative_prompt"],
                box=(x0 / width, y0 / height, x1 / width, y1 / height),
            )
        )
    return Layout(
        name=case["name"],
        prompt=case["prompt"],
        negative_prompt=case["negative_prompt"],
        width=width,
        height=height,
        background=case["background"],
        regions=tuple(regions),
    )


FORMS = [
    pytest.param((case, grouped), id=f"{case.stem}-{'groups' if grouped else 'mask'}")
    for case in CASES
    for grouped in (True, False)
]
"""Each case with isolation as a CPU does it, and as a GPU does."""


@pytest.fixture(scope="module", params=FORMS)
def run(request: pytest.FixtureRequest, base: Base) -> Run:
    file, grouped = request.param
    case = json.loads(file.read_text())
    concepts = {
        name: load_mix_of_show(REFERENCE / "concepts" / f"{name}.pth", name, class_word=name)
        for name in case["concepts"]
    }
    method = LoraComposer(**case["switches"])
    layout = layout_of(case)
    prepared = method.prepare(base, layout, concepts)
    process = Refining(
        base, prepared, method, case["steps"], case["guidance_scale"], grouped=grouped
    )
    noise = initial_noise(base, layout.width, layout.height, [case["seed"]])
    steps = list(denoise(base, process, noise, case["steps"]))
    golden = REFERENCE / "golden" / case["name"]
    return Run(
        steps,
        steps[-1].latents,
        json.loads(golden.with_suffix(".json").read_text()),
        load_file(golden.with_suffix(".safetensors")),
    )


def assert_close(name: str, ours: Tensor, golden: Tensor) -> None:
    worst = float((ours - golden).abs().max() / golden.std())
    assert worst < TOLERANCE, f"{name}: off by {worst:.2e} standard deviations"


def test_timesteps(run: Run) -> None:
    assert [step.timestep for step in run.steps[1:]] == run.golden_numbers["timesteps"]


def test_reinitialisation(run: Run) -> None:
    for number, response in enumerate(run.steps[0].responses[0]):
        assert_close(f"map {number}", response, run.golden[f"cross_map_init_{number}"])
    assert_close("reinit", run.steps[0].latents, run.golden["reinit"])


def test_losses_and_the_stopping_step(run: Run) -> None:
    refined = [step for step in run.steps[1:] if step.guidance]
    assert len(refined) == len(run.golden_numbers["steps"])
    for step, golden in zip(refined, run.golden_numbers["steps"], strict=True):
        found = step.guidance[0]
        flat = {
            "fg": [1 - v for term in found.terms for v in term.enhancement.tolist()],
            "region": [10 * float(term.region) for term in found.terms],
            "fill_x": [2 * v for term in found.terms for v in term.fill_x.tolist()],
            "fill_y": [2 * v for term in found.terms for v in term.fill_y.tolist()],
        }
        assert found.loss == pytest.approx(golden["loss"], rel=TOLERANCE)
        for name, values in flat.items():
            if name in golden and golden[name]:
                assert values == pytest.approx(golden[name], rel=TOLERANCE), name


def test_latents_of_every_step(run: Run) -> None:
    for step in run.steps[1:]:
        if step.guidance:
            name = f"refined_{step.number}"
            assert_close(name, step.refined, run.golden[name])
        assert_close(f"latents {step.number}", step.latents, run.golden[f"latents_{step.number}"])
    assert_close("final", run.final, run.golden["final"])
