"""ControlNets and T2I-Adapters steer a composition: as in diffusers, and as much as weights say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    T2IAdapter,
)
from PIL import Image
from sample_layouts import PAIR
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.unet.controls import check_conditions, weight_map
from toolkit.concept import Concept
from toolkit.errors import InputError
from toolkit.layout.cells import cells_of
from toolkit.layout.files import read_layouts
from toolkit.layout.layout import Condition, ConditionType, Layout
from toolkit.layout.tiles import tiles_of
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.sampling import compose

BOTH = list(ConditionType)
PLAIN = Layout("plain", "a dog in the park", 256, 192)


@pytest.fixture(scope="module")
def files(reference_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ControlNet and an adapter with random weights for the tiny base, and an image."""
    folder = tmp_path_factory.mktemp("conditions")
    torch.manual_seed(5)
    controlnet = ControlNetModel.from_unet(
        reference_base.unet, conditioning_embedding_out_channels=(8, 8, 8, 8)
    )
    for weight in controlnet.parameters():
        if not weight.any():  # its zero convolutions, which would add nothing
            torch.nn.init.normal_(weight, std=0.2)
    controlnet.save_pretrained(folder / "controlnet")
    widths = list(reference_base.unet.config.block_out_channels)
    T2IAdapter(
        in_channels=3, channels=widths, num_res_blocks=1, downscale_factor=8
    ).save_pretrained(folder / "t2i_adapter")
    Image.effect_noise((64, 48), 90).convert("RGB").save(folder / "pose.png")
    return folder


def condition(files: Path, kind: ConditionType, **change: object) -> Condition:
    made = Condition(kind, str(files / kind), files / "pose.png")
    return replace(made, **change)  # type: ignore[arg-type]


def sample(
    base: Base, concepts: dict[str, Concept], layout: Layout, *conditions: Condition
) -> Tensor:
    layout = replace(layout, conditions=conditions)
    return compose(base, PUBLISHED, [PUBLISHED.prepare(base, layout, concepts)], [3], steps=3)


@pytest.mark.parametrize("kind", BOTH)
def test_a_condition_of_weight_0_changes_nothing_and_of_weight_1_the_picture(
    kind: ConditionType, files: Path, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    without = sample(reference_base, concepts, PAIR)
    assert torch.equal(
        sample(reference_base, concepts, PAIR, condition(files, kind, weight=0.0)), without
    )
    faint = sample(reference_base, concepts, PAIR, condition(files, kind, weight=1e-9))
    assert (faint - without).abs().max() < 1e-4 * without.std()
    steered = sample(reference_base, concepts, PAIR, condition(files, kind))
    assert (steered - without).abs().max() > 0.05 * without.std()


@pytest.mark.parametrize("kind", BOTH)
def test_without_regions_it_is_what_diffusers_makes(
    kind: ConditionType, files: Path, reference_base: Base
) -> None:
    ours = sample(reference_base, {}, PLAIN, condition(files, kind, weight=0.7))
    parts = {
        "vae": None,
        "text_encoder": reference_base.text_encoder,
        "tokenizer": reference_base.tokenizer,
        "unet": reference_base.unet,
        "scheduler": reference_base.scheduler(3),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    image = Image.open(files / "pose.png").resize((256, 192), Image.Resampling.LANCZOS)
    asked = {
        "prompt": PLAIN.prompt,
        "image": image,
        "num_inference_steps": 3,
        "guidance_scale": 7.5,
        "output_type": "latent",
        "latents": torch.randn((1, 4, 24, 32), generator=torch.Generator("cpu").manual_seed(3)),
        "width": 256,
        "height": 192,
    }
    if kind is ConditionType.CONTROLNET:
        network = ControlNetModel.from_pretrained(files / kind)
        pipeline = StableDiffusionControlNetPipeline(controlnet=network, **parts)
        theirs = pipeline(controlnet_conditioning_scale=0.7, **asked).images
    else:
        network = T2IAdapter.from_pretrained(files / kind)
        pipeline = StableDiffusionAdapterPipeline(adapter=network, **parts)
        theirs = pipeline(adapter_conditioning_scale=0.7, **asked).images
    assert (ours - theirs).abs().max() < 1e-4 * ours.std()


@pytest.mark.parametrize("kind", BOTH)
def test_a_region_weight_changes_what_is_added_in_its_box_alone(
    kind: ConditionType, files: Path, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    def added(weights: tuple[float | None, ...]) -> list[Tensor]:
        """What reaches the U-Net in its first pass."""
        seen: list[list[Tensor]] = []

        def look(_module: object, _args: object, given: dict[str, list[Tensor] | None]) -> None:
            parts = (
                *(given["down_block_additional_residuals"] or ()),
                *(given["down_intrablock_additional_residuals"] or ()),
            )
            seen.append([part.clone() for part in parts])

        handle = reference_base.unet.register_forward_pre_hook(look, with_kwargs=True)
        sample(reference_base, concepts, PAIR, condition(files, kind, region_weights=weights))
        handle.remove()
        return seen[0]

    plain, changed = added(()), added((None, 0.25))
    sizes = set()
    for before, after in zip(plain, changed, strict=True):
        height, width = before.shape[-2:]
        expected = before.clone()
        if cells := cells_of(PAIR.regions[1].box, height, width):
            expected[..., cells.top : cells.bottom, cells.left : cells.right] *= 0.25
            sizes.add((height, width))
        assert torch.allclose(after, expected, atol=1e-6)
    assert len(sizes) >= 3


def test_conditions_add_up(files: Path, reference_base: Base, concepts: dict[str, Concept]) -> None:
    halves = [condition(files, ConditionType.CONTROLNET, weight=0.5)] * 2
    whole = condition(files, ConditionType.CONTROLNET)
    once, twice = (sample(reference_base, concepts, PAIR, *made) for made in ([whole], halves))
    assert (once - twice).abs().max() < 1e-4 * once.std()


@pytest.mark.parametrize("kind", BOTH)
def test_a_layout_without_conditions_is_not_changed_by_its_neighbour_in_the_batch(
    kind: ConditionType, files: Path, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    steered = replace(PAIR, name="steered", conditions=(condition(files, kind),))
    ready = [PUBLISHED.prepare(reference_base, layout, concepts) for layout in (PAIR, steered)]
    together = compose(reference_base, PUBLISHED, ready, [3, 3], steps=3)
    for index, layout in enumerate((PAIR, steered)):
        alone = sample(reference_base, concepts, layout, *layout.conditions)
        assert (together[[index]] - alone).abs().max() < 1e-4 * alone.std()


def test_a_file_beside_the_layout_is_found(files: Path) -> None:
    (files / "scene.yaml").write_text(
        "{name: scene, prompt: a park, width: 256, height: 192, regions: [], conditions: "
        "[{type: controlnet, model: controlnet, image: pose.png, weight: 0.5}]}"
    )
    (layout,) = read_layouts([files / "scene.yaml"])
    assert layout.conditions == (condition(files, ConditionType.CONTROLNET, weight=0.5),)


def test_conditions_that_cannot_be_used_are_refused_in_one_line(
    files: Path, reference_base: Base, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    T2IAdapter(channels=[8, 8, 8, 8], num_res_blocks=1).save_pretrained(tmp_path / "other")
    (tmp_path / "torn.png").write_bytes((files / "pose.png").read_bytes()[:200])
    good = condition(files, ConditionType.CONTROLNET)
    wrong = {
        "made for another base": condition(
            files, ConditionType.T2I_ADAPTER, model=str(tmp_path / "other")
        ),
        "is a T2IAdapter; type controlnet needs a ControlNetModel": replace(
            good, model=str(files / "t2i_adapter")
        ),
        "cannot load": replace(good, model=str(tmp_path / "nothing")),
        "torn.png": replace(good, image=tmp_path / "torn.png"),
        "missing.png": replace(good, image=tmp_path / "missing.png"),
    }
    for message, made in wrong.items():
        with pytest.raises(InputError, match=message) as caught:
            check_conditions(replace(PAIR, conditions=(made,)), reference_base)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="3 region_weights for 2 regions"):
        replace(PAIR, conditions=(replace(good, region_weights=(1.0, 1.0, 1.0)),))


def test_a_network_of_the_hub_is_asked_for_once_where_there_is_none(
    reference_base: Base, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    condition = Condition(ConditionType.CONTROLNET, "somebody/something", files / "image.png")
    with pytest.raises(InputError, match="cannot be reached: check the network"):
        check_conditions(replace(PAIR, conditions=(condition,)), reference_base)


@pytest.mark.parametrize("kind", BOTH)
def test_a_tile_is_steered_by_its_part_of_the_image(
    kind: ConditionType, files: Path, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    steering = condition(files, kind, weight=0.3, region_weights=(1.0, None))
    layout = replace(PAIR, conditions=(steering,))
    (whole,) = PUBLISHED.prepare(reference_base, layout, concepts)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    for tile in tiles_of(256, 192, 128, 64):
        own = whole.of_tile(tile)
        for part, of_whole in zip(own.controls.adapter, whole.controls.adapter, strict=True):
            shown = tile.within(*part.shape[-2:])
            assert part.equal(of_whole[(..., *shown)])
        for network, of_whole in zip(own.controls.networks, whole.controls.networks, strict=True):
            top, left = tile.top, tile.left
            assert network.pixels.equal(of_whole.pixels[..., top : top + 128, left : left + 128])
        weights = weight_map(steering, own.layout, 16, 16, tile)
        assert weights.equal(weight_map(steering, layout, 24, 32)[tile.within(16, 16)])
        passes = reference_base.passes([own], PUBLISHED.regional)
        with torch.no_grad():
            found = passes.predict(latents, torch.tensor(500), 4.0)
            bare = replace(own, controls=type(own.controls)())
            without = reference_base.passes([bare], PUBLISHED.regional).predict(
                latents, torch.tensor(500), 4.0
            )
        assert (found - without).abs().max() > 0.01 * without.std()
