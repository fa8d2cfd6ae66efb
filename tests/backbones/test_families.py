"""Stable Diffusion XL and 2.x against diffusers itself, on models of their full structure."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
from tiny_families import random_concept, write_sd2, write_xl
from torch import Tensor

from toolkit.backbones import Base, load_base
from toolkit.backbones.unet.names import stored_name
from toolkit.concept import Concept
from toolkit.layout.layout import Layout, Region
from toolkit.methods import LoraComposer, Method
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.sampling import compose, initial_noise

PLAIN = Layout("plain", "a dog in the park", 128, 192, negative_prompt="rain")
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
VELOCITY = {"prediction_type": "v_prediction"}
ZERO_SNR = VELOCITY | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "xl": (write_xl, {}),
    "xl_velocity": (write_xl, VELOCITY),
    "xl_zero_snr": (write_xl, ZERO_SNR),
    "sd2": (write_sd2, {}),
    "sd2_noise": (write_sd2, {"prediction_type": "epsilon"}),
    "sd2_zero_snr": (write_sd2, ZERO_SNR),
}


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    write, scheduler = FAMILIES[request.param]
    return load_base(
        write(tmp_path_factory.mktemp(request.param, numbered=False), **scheduler), request.param
    )


@pytest.fixture
def folder(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the base was loaded from."""
    return tmp_path_factory.getbasetemp() / base.name


@pytest.fixture(scope="module")
def concepts(base: Base) -> dict[str, Concept]:
    return {name: random_concept(base, name, seed) for seed, name in enumerate(("dog", "cat"))}


def by_diffusers(
    folder: Path, base: Base, layout: Layout, lora: Concept | None = None, **more: Any
) -> Tensor:
    """The latents that diffusers' own pipeline makes, with the scheduler of composing."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(base.scheduler(4).config)
    if lora is not None:
        pipeline.load_lora_weights(
            {
                f"{stored_name(part, path)}.{half}.weight": tensor
                for part, changes in lora.changes.items()
                for path, pair in changes.items()
                for half, tensor in (("lora_A", pair.down), ("lora_B", pair.up))
            }
        )
    found: Tensor = pipeline(
        layout.prompt.replace("<dog>", "dog"),
        negative_prompt=layout.negative_prompt or None,
        width=layout.width,
        height=layout.height,
        num_inference_steps=4,
        guidance_scale=5.0,
        latents=initial_noise(base, layout.width, layout.height, [3]),
        output_type="latent",
        **more,
    ).images
    return found


def by_composing(
    base: Base, layout: Layout, concepts: dict[str, Concept], method: Method = PUBLISHED
) -> Tensor:
    ready = method.prepare(base, layout, concepts)
    return compose(base, method, [ready], [3], steps=4, guidance_scale=5.0)


def differ(found: Tensor, expected: Tensor) -> float:
    """How far they are apart at most, as a share of the standard deviation."""
    assert expected.isfinite().all()
    return float((found - expected).abs().max() / expected.std())


@pytest.mark.parametrize("negative", ["", "rain"])
def test_without_regions_it_is_what_diffusers_makes(
    negative: str, folder: Path, base: Base
) -> None:
    layout = replace(PLAIN, negative_prompt=negative)
    assert differ(by_composing(base, layout, {}), by_diffusers(folder, base, layout)) < 1e-4


def test_a_lora_as_background_is_what_diffusers_makes_of_it(folder: Path, base: Base) -> None:
    nothing = {part: torch.zeros(0, *shape) for part, shape in base.embedding_shapes.items()}
    lora = replace(random_concept(base, "dog", 0).with_tokens((), nothing), trigger_words="dog")
    layout = replace(PLAIN, prompt="a <dog> in the park", background="dog")
    expected = by_diffusers(folder, base, layout, lora)
    assert differ(by_composing(base, layout, {"dog": lora}), expected) < 1e-4
    assert differ(by_composing(base, PLAIN, {}), expected) > 0.1


def test_two_regions_of_the_backgrounds_concept_make_the_backgrounds_picture(
    base: Base, concepts: dict[str, Concept]
) -> None:
    """Where a box hears what the canvas hears, and is not cut off, boxes cannot be seen."""
    said = "a <dog> in the park"
    canvas = replace(PLAIN, prompt=said, background="dog")
    boxes = replace(canvas, regions=(Region("dog", said, LEFT), Region("dog", said, RIGHT)))
    method = LoraComposer(
        concept_region_mask=False,
        enhancement=False,
        fill_loss=False,
        region_loss=False,
        reinitialisation=False,
    )
    alone = by_composing(base, canvas, concepts, method)
    assert differ(by_composing(base, boxes, concepts, method), alone) < 1e-4
    other = replace(boxes, regions=(boxes.regions[0], Region("cat", "a <cat>", RIGHT)))
    assert differ(by_composing(base, other, concepts, method), alone) > 0.1


@pytest.mark.parametrize("base", ["xl_zero_snr", "sd2"], indirect=True)
@pytest.mark.parametrize(
    "switch",
    ["injection", "concept_region_mask", "enhancement", "gaussian_weight", "fill_loss",
     "region_loss", "reinitialisation"],
)  # fmt: skip
def test_every_part_of_the_method_changes_the_picture(
    switch: str, base: Base, concepts: dict[str, Concept]
) -> None:
    pair = Layout(
        "pair", "a dog and a cat", 192, 128,
        (Region("dog", "<dog>, sitting", (0.0, 0.1, 0.45, 1.0)),
         Region("cat", "<cat>, sitting", (0.55, 0.2, 1.0, 0.9))),
    )  # fmt: skip
    full = by_composing(base, pair, concepts)
    assert differ(by_composing(base, pair, concepts, LoraComposer(**{switch: False})), full) > 1e-3


@pytest.mark.parametrize("base", ["xl"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_where_single_does(
    dtype: torch.dtype, folder: Path, base: Base, concepts: dict[str, Concept]
) -> None:
    half = load_base(folder, "half", dtype=dtype)
    pair = replace(
        PLAIN, regions=(Region("dog", "<dog>", LEFT), Region("cat", "<cat>, sitting", RIGHT))
    )
    expected, found = (by_composing(own, pair, concepts).flatten() for own in (base, half))
    assert found.isfinite().all()
    assert torch.cosine_similarity(expected, found, dim=0) > 0.99
