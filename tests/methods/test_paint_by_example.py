"""Paint by Example on tiny random parts, kept in a folder as its checkpoint is."""

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PaintByExamplePipeline, PNDMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig

from toolkit.backbones import Base
from toolkit.cli import main
from toolkit.concept import Concept, save_concept
from toolkit.config import read_compose, read_evaluate
from toolkit.errors import InputError
from toolkit.images.tensors import image_of, pixels_of
from toolkit.layout.layout import Layout, Region
from toolkit.library import pictures
from toolkit.methods.paint_by_example import PaintByExample
from toolkit.methods.painting import load_painter, paint
from toolkit.methods.reading import place

BOX, CPU = (0.0, 0.0, 0.5, 1.0), torch.device("cpu")
LAYOUT = """\
name: pair
prompt: a dog and a cat on the grass
width: {width}
height: 64
regions:
  - {{concept: dog, prompt: <dog>, box: [0, 0, 0.5, 1]}}
  - {{concept: cat, prompt: <cat>, box: [0.5, 0, 1, 1]}}
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `save_pretrained` leaves of a whole pipeline, whose U-Net has nine channels."""
    torch.manual_seed(0)
    encoder = import_module(PaintByExamplePipeline.__module__).PaintByExampleImageEncoder
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=32,
    )
    whole = PaintByExamplePipeline(
        vae=AutoencoderKL(
            block_out_channels=[8] * 4,
            norm_num_groups=4,
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
        ),
        image_encoder=encoder(vision),
        unet=UNet2DConditionModel(
            in_channels=9,
            out_channels=4,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=32,
            attention_head_dim=4,
            norm_num_groups=4,
        ),
        scheduler=PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
    )
    folder = tmp_path_factory.mktemp("painter") / "checkpoint"
    whole.save_pretrained(folder)
    return folder


def picture(width: int, height: int, seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_a_subject_is_painted_as_diffusers_paints_it(checkpoint: Path, tmp_path: Path) -> None:
    exemplar, canvas = tmp_path / "exemplar.png", picture(128, 64, 1)
    picture(60, 40, 2).save(exemplar)
    painter: Any = load_painter(str(checkpoint), CPU)
    ours = paint(painter, pixels_of(canvas), [(BOX, exemplar)], 3, 4, 5.0)
    mask = Image.new("L", (128, 64), 0)
    mask.paste(255, (0, 0, 64, 64))
    squeezed = Image.open(exemplar).resize((32, 32), Image.Resampling.BICUBIC)
    theirs = painter(
        example_image=squeezed,
        image=canvas,
        mask_image=mask,
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    assert np.abs(np.array(image_of(ours)).astype(int) - np.array(theirs)).max() <= 1


def test_subjects_are_painted_in_turn_and_each_by_its_own_picture(
    checkpoint: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    picture(32, 32, 4).save(first)
    picture(32, 32, 5).save(second)
    painter = load_painter(str(checkpoint), CPU)
    canvas = pixels_of(picture(128, 64, 1))
    one = paint(painter, canvas, [(BOX, first)], 0, 2, 5.0)
    other = paint(painter, canvas, [(BOX, second)], 0, 2, 5.0)
    assert not torch.allclose(one, other, atol=1e-3)
    both = paint(painter, canvas, [(BOX, first), ((0.5, 0.0, 1.0, 1.0), second)], 0, 2, 5.0)
    assert not torch.allclose(both, one, atol=1e-3)
    assert both.shape == canvas.shape and both.min() >= 0 and both.max() <= 1
    assert torch.equal(paint(painter, canvas, [], 0, 2, 5.0), canvas)


def test_the_place_is_drawn_without_subjects_and_by_the_background(
    concepts: dict[str, Concept],
) -> None:
    regions = (Region("dog", "<dog>", BOX),)
    plain = place(Layout("a", "a dog on the grass", 64, 64, regions), concepts)
    assert plain.text == "on the grass" and plain.change is None
    behind = Layout("a", "a dog in front of <rock>", 64, 64, regions, background="rock")
    found = place(behind, concepts)
    assert found.text == "in front of <rock1> <rock2>" and found.change is concepts["rock"]


@pytest.fixture
def run(
    tmp_path: Path,
    tiny_base_folder: Path,
    checkpoint: Path,
    concepts: dict[str, Concept],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("dog", "cat")):
        save_concept(concepts[name], tmp_path / f"out/concepts/tiny/{name}.safetensors")
        (tmp_path / "configs/concept").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"configs/concept/{name}.yaml").write_text(f"images: shown/{name}\n")
        (tmp_path / "shown" / name).mkdir(parents=True)
        picture(40, 40, number).save(tmp_path / "shown" / name / "0.png")
        picture(40, 40, 9).save(tmp_path / "shown" / name / "1.png")

    def compose_pair(painter: str | None = str(checkpoint), width: int = 128) -> int:
        (tmp_path / "pair.yaml").write_text(LAYOUT.format(width=width))
        typed = ["layout=pair.yaml", "output_dir=out", "sampling.steps=2", "trainer=cpu"]
        base = [f"model.path={tiny_base_folder}", "model.guidance_downscale=4"]
        chosen = ["method=paint_by_example", "method.painter_steps=2"]
        given = [] if painter is None else [f"painter.path={painter}"]
        return main(["compose", *chosen, *given, *typed, *base])

    return compose_pair


def entry_of(folder: Path) -> Any:
    (entry,) = folder.glob("out/compose/*/pair/0.json")
    return json.loads(entry.read_text())


def test_composing(run: Callable[..., int], tmp_path: Path, checkpoint: Path) -> None:
    assert run() == 0
    first = entry_of(tmp_path)
    assert first["status"] == "done"
    assert first["inputs"]["method"]["painter"] == str(checkpoint)
    assert len(first["inputs"]["conditions"]) == 3
    assert run() == 0 and entry_of(tmp_path) == first
    picture(40, 40, 9).save(tmp_path / "shown/dog/1.png")
    assert run() == 0 and entry_of(tmp_path) == first, "only the first image is shown"
    picture(40, 40, 77).save(tmp_path / "shown/dog/0.png")
    assert run() == 0
    again = entry_of(tmp_path)
    assert again["status"] == "done" and again["sha256"] != first["sha256"]


def test_what_is_missing_is_told_in_one_line_before_anything_is_made(
    run: Callable[..., int],
    tmp_path: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lacking = tmp_path / "lacking"
    shutil.copytree(checkpoint, lacking)
    shutil.rmtree(lacking / "image_encoder")
    assert run(painter=None) == 2
    assert run(painter=str(lacking)) == 2
    assert run(painter="no such/id of/a hub") == 2
    assert run(width=96) == 2
    shutil.rmtree(tmp_path / "shown/cat")
    assert run() == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("toolkit: ")]
    wanted = [
        "painter.path=FOLDER",
        "it lacks image_encoder",
        "no folder here",
        "multiples of 64",
        "images of cat",
    ]
    for line, what in zip(said, wanted, strict=True):
        assert what in line
    assert not (tmp_path / "out/compose").exists()


def test_the_painter_is_given_to_the_method_that_has_one() -> None:
    scene = "layout=scene1"
    config = read_compose([scene, "method=paint_by_example", "painter.path=~/p"])
    assert isinstance(config.method, PaintByExample)
    assert config.method.painter == str(Path.home() / "p")
    assert config.method_name == "paint_by_example"
    with pytest.raises(InputError, match=r"painter\.path is for method=paint_by_example"):
        read_compose([scene, "painter.path=a"])
    compared = read_evaluate([scene, "methods=merge,paint_by_example", "painter.path=a/b"])
    assert [getattr(one, "painter", None) for one in compared.methods] == [None, "a/b"]


def test_from_a_notebook(
    run: Callable[..., int], tiny_base: Base, concepts: dict[str, Concept], checkpoint: Path
) -> None:
    layout = Layout("own", "a dog on the grass", 128, 64, (Region("dog", "<dog>", BOX),))
    method = PaintByExample(painter=str(checkpoint), painter_steps=2)
    (made,) = pictures.compose(layout, [concepts["dog"]], tiny_base, method=method, steps=2)
    assert made.size == (128, 64)
    with pytest.raises(InputError, match="take compose"):
        pictures.compose_steps(layout, [concepts["dog"]], tiny_base, method=method, steps=2)
