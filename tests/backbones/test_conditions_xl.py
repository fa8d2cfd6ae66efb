"""ControlNets, ControlNet-Union and T2I-Adapters of Stable Diffusion XL: as in diffusers."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from conditioned import PLAIN, check_weight_of_a_region, sample
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    DiffusionPipeline,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    T2IAdapter,
)
from PIL import Image
from tiny_families import write_xl

from toolkit.backbones import Base, load_base
from toolkit.backbones.unet.controls import check_conditions
from toolkit.errors import InputError
from toolkit.layout.layout import Condition, ConditionType
from toolkit.sampling import initial_noise

KINDS = ("controlnet", "union", "t2i_adapter")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xl(tmp_path_factory.mktemp("conditions") / "xl")


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(folder, "xl")


@pytest.fixture(scope="module")
def files(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of each kind with random weights, and an image."""
    files = tmp_path_factory.mktemp("files")
    torch.manual_seed(5)
    shape = {"conditioning_embedding_out_channels": (8, 8, 8, 8)}
    union = ControlNetUnionModel(
        **{name: base.unet.config[name] for name in (
            "block_out_channels", "down_block_types", "transformer_layers_per_block",
            "attention_head_dim", "norm_num_groups", "cross_attention_dim",
            "use_linear_projection", "addition_embed_type", "addition_time_embed_dim",
            "projection_class_embeddings_input_dim")},
        num_trans_channel=8, num_proj_channel=8, num_trans_head=2, **shape,
    )  # fmt: skip
    networks = {"controlnet": ControlNetModel.from_unet(base.unet, **shape), "union": union}
    for name, network in networks.items():
        for weight in network.parameters():
            if not weight.any():  # its zero convolutions, which would add nothing
                torch.nn.init.normal_(weight, std=0.1)
        network.save_pretrained(files / name)
    T2IAdapter(
        channels=[8, 16, 16, 16],
        num_res_blocks=1,
        downscale_factor=16,
        adapter_type="full_adapter_xl",
    ).save_pretrained(files / "t2i_adapter")
    Image.effect_noise((64, 48), 90).convert("RGB").save(files / "pose.png")
    return files


def condition(files: Path, kind: str, **change: object) -> Condition:
    type_ = ConditionType.T2I_ADAPTER if kind == "t2i_adapter" else ConditionType.CONTROLNET
    mode = 2 if kind == "union" else None
    made = Condition(type_, str(files / kind), files / "pose.png", mode=mode)
    return replace(made, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_without_regions_it_is_what_diffusers_makes(
    kind: str, folder: Path, files: Path, base: Base
) -> None:
    layout = replace(PLAIN, conditions=(condition(files, kind, weight=0.7),))
    parts = DiffusionPipeline.from_pretrained(folder).components
    parts = {name: part for name, part in parts.items() if part is not None}
    parts["scheduler"] = base.scheduler(3)
    image = Image.open(files / "pose.png").resize((192, 128), Image.Resampling.LANCZOS)
    asked = {
        "prompt": PLAIN.prompt,
        "negative_prompt": PLAIN.negative_prompt,
        "num_inference_steps": 3,
        "guidance_scale": 5.0,
        "output_type": "latent",
        "latents": initial_noise(base, 192, 128, [3]),
        "width": 192,
        "height": 128,
    }
    path = files / kind
    if kind == "controlnet":
        network = ControlNetModel.from_pretrained(path)
        pipeline = StableDiffusionXLControlNetPipeline(controlnet=network, **parts)
        theirs = pipeline(image=image, controlnet_conditioning_scale=0.7, **asked).images
    elif kind == "union":
        network = ControlNetUnionModel.from_pretrained(path)
        pipeline = StableDiffusionXLControlNetUnionPipeline(controlnet=network, **parts)
        asked |= {"control_image": [image], "control_mode": [2]}
        theirs = pipeline(controlnet_conditioning_scale=0.7, **asked).images
    else:
        network = T2IAdapter.from_pretrained(path)
        pipeline = StableDiffusionXLAdapterPipeline(adapter=network, **parts)
        theirs = pipeline(image=image, adapter_conditioning_scale=0.7, **asked).images
    ours = sample(base, layout)
    assert (ours - theirs).abs().max() < 1e-4 * ours.std()
    assert (ours - sample(base, PLAIN)).abs().max() > 0.01 * ours.std()


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_has_a_weight_of_its_own(kind: str, files: Path, base: Base) -> None:
    check_weight_of_a_region(base, partial(condition, files, kind))


def test_what_does_not_fit_is_told_before_any_weight_is_read(files: Path, base: Base) -> None:
    for kind, mode, said in (
        ("union", None, "say which this is with mode, from 0 to 5"),
        ("union", 6, "say which this is with mode, from 0 to 5"),
        ("controlnet", 1, "leave out mode"),
    ):
        layout = replace(PLAIN, conditions=(condition(files, kind, mode=mode),))
        with pytest.raises(InputError, match=said):
            check_conditions(layout, base)
