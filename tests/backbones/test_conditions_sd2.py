"""ControlNets and T2I-Adapters of Stable Diffusion 2.x: as in diffusers."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from conditioned import PLAIN, check_weight_of_a_region, sample
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    T2IAdapter,
)
from PIL import Image
from tiny_families import write_sd2

from toolkit.backbones import Base, load_base
from toolkit.layout.layout import Condition, ConditionType
from toolkit.sampling import initial_noise

KINDS = tuple(ConditionType)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd2(tmp_path_factory.mktemp("conditions") / "sd2")


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(folder, "sd2")


@pytest.fixture(scope="module")
def files(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of each kind with random weights, and an image."""
    files = tmp_path_factory.mktemp("files")
    torch.manual_seed(5)
    network = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(8, 8, 8, 8))
    for weight in network.parameters():
        if not weight.any():  # its zero convolutions, which would add nothing
            torch.nn.init.normal_(weight, std=0.1)
    network.save_pretrained(files / ConditionType.CONTROLNET)
    T2IAdapter(
        channels=[8, 16, 16, 16], num_res_blocks=1, downscale_factor=8, adapter_type="full_adapter"
    ).save_pretrained(files / ConditionType.T2I_ADAPTER)
    Image.effect_noise((64, 48), 90).convert("RGB").save(files / "pose.png")
    return files


def condition(files: Path, kind: ConditionType, **change: object) -> Condition:
    made = Condition(kind, str(files / kind), files / "pose.png")
    return replace(made, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_without_regions_it_is_what_diffusers_makes(
    kind: ConditionType, folder: Path, files: Path, base: Base
) -> None:
    layout = replace(PLAIN, conditions=(condition(files, kind, weight=0.7),))
    parts = DiffusionPipeline.from_pretrained(folder, safety_checker=None).components
    parts |= {"scheduler": base.scheduler(3), "requires_safety_checker": False}
    asked = {
        "prompt": PLAIN.prompt,
        "negative_prompt": PLAIN.negative_prompt,
        "image": Image.open(files / "pose.png").resize((192, 128), Image.Resampling.LANCZOS),
        "num_inference_steps": 3,
        "guidance_scale": 5.0,
        "output_type": "latent",
        "latents": initial_noise(base, 192, 128, [3]),
        "width": 192,
        "height": 128,
    }
    if kind is ConditionType.CONTROLNET:
        network = ControlNetModel.from_pretrained(files / kind)
        pipeline = StableDiffusionControlNetPipeline(controlnet=network, **parts)
        theirs = pipeline(controlnet_conditioning_scale=0.7, **asked).images
    else:
        parts.pop("image_encoder", None)
        network = T2IAdapter.from_pretrained(files / kind)
        pipeline = StableDiffusionAdapterPipeline(adapter=network, **parts)
        theirs = pipeline(adapter_conditioning_scale=0.7, **asked).images
    ours = sample(base, layout)
    assert (ours - theirs).abs().max() < 1e-4 * ours.std()
    assert (ours - sample(base, PLAIN)).abs().max() > 0.01 * ours.std()


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_has_a_weight_of_its_own(kind: ConditionType, files: Path, base: Base) -> None:
    check_weight_of_a_region(base, partial(condition, files, kind))
