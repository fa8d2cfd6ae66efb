"""Composing through Lightning: files that are whole, runs that go on, failures that stay alone."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from lightning import Trainer
from PIL import Image
from pyarrow import parquet
from sample_layouts import PAIR

from toolkit.backbones import Base
from toolkit.backbones.memory import MOST, pictures_that_fit
from toolkit.batch.data import Items, make_batches, share_of
from toolkit.batch.journal import Item, Recipe, error_of, is_done, set_aside, write_manifest
from toolkit.batch.module import Composer
from toolkit.batch.writer import CompositionWriter
from toolkit.concept import Concept
from toolkit.errors import InputError
from toolkit.layout.layout import Layout
from toolkit.methods import LoraComposer, Method
from toolkit.methods.lora_composer import PUBLISHED

RECIPE = Recipe(
    base={"name": "reference"},
    concepts={"dog": "1", "cat": "2"},
    conditions={},
    method={"name": "lora_composer"},
    steps=2,
    guidance_scale=7.5,
)


@pytest.fixture(scope="module")
def picture_base(reference_base: Base) -> Base:
    torch.manual_seed(0)
    vae = AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )
    fields = {name: getattr(reference_base, name) for name in Base.__dataclass_fields__}
    return Base(**(fields | {"vae": vae.requires_grad_(False).eval()}))


def predict(
    base: Base,
    concepts: dict[str, Concept],
    items: list[Item],
    folder: Path,
    method: Method | None = None,
    inference_mode: bool = False,
    batch_size: int = 2,
) -> CompositionWriter:
    writer = CompositionWriter(folder, RECIPE, figures=True)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=inference_mode,
        callbacks=[writer],
    )
    module = Composer(base, concepts, method or PUBLISHED, steps=2, guidance_scale=7.5)
    data = Items(items, lambda width, height: batch_size)
    trainer.predict(module, datamodule=data, return_predictions=False)
    return writer


def test_every_picture_leaves_its_files_and_a_row(
    picture_base: Base, concepts: dict[str, Concept], tmp_path: Path
) -> None:
    items = [Item(PAIR, 0), Item(PAIR, 7)]
    predict(picture_base, concepts, items, tmp_path)
    for item in items:
        assert Image.open(item.path(tmp_path, ".png")).size == (256, 192)
        assert Image.open(item.path(tmp_path, "_attention.png")).format == "PNG"
        assert Image.open(item.path(tmp_path, "_losses.png")).format == "PNG"
        entry = json.loads(item.path(tmp_path, ".json").read_text())
        assert entry["inputs"]["layout"]["regions"][0]["prompt"] == "<dog>, sitting"
        assert len(entry["losses"]) == 2
        assert is_done(item, RECIPE, tmp_path)
    rows = parquet.read_table(write_manifest(tmp_path, "lora_composer")).to_pylist()
    assert [(row["layout"], row["seed"], row["status"]) for row in rows] == [
        ("pair", 0, "done"),
        ("pair", 7, "done"),
    ]
    assert rows[0]["guidance_steps"] == 2
    assert not list(tmp_path.rglob("*.partial*"))


def test_a_picture_says_itself_what_it_was_made_from(
    picture_base: Base, concepts: dict[str, Concept], tmp_path: Path
) -> None:
    item = Item(PAIR, 7)
    predict(picture_base, concepts, [item], tmp_path)
    told = Image.open(item.path(tmp_path, ".png")).text
    inputs = json.loads(told["toolkit"])
    entry = json.loads(item.path(tmp_path, ".json").read_text())
    assert {key: inputs[key] for key in entry["inputs"]} == entry["inputs"]
    assert set(inputs["versions"]) == {"toolkit", "torch", "diffusers", "transformers"}
    first, negative, settings = told["parameters"].split("\n")
    assert first == "a dog and a cat [<dog>, sitting] [<cat>, sitting]"
    assert negative.startswith("Negative prompt:")
    assert "Steps: 2, " in settings and "Seed: 7, " in settings and "Size: 256x192" in settings


def test_what_a_new_picture_replaces_is_kept_beside_it(
    picture_base: Base, concepts: dict[str, Concept], tmp_path: Path
) -> None:
    item = Item(PAIR, 0)
    predict(picture_base, concepts, [item], tmp_path)
    before = item.path(tmp_path, ".png").read_bytes()
    assert set_aside([item, Item(PAIR, 1)], tmp_path) == 1
    assert not item.path(tmp_path, ".png").exists()
    predict(picture_base, concepts, [item], tmp_path, LoraComposer(fill_loss=False))
    (kept,) = (tmp_path / "pair" / "earlier").glob("0_*.json")
    assert (
        kept.with_suffix(".png").read_bytes() == before != item.path(tmp_path, ".png").read_bytes()
    )
    rows = parquet.read_table(write_manifest(tmp_path, "lora_composer")).to_pylist()
    assert len(rows) == 1 and rows[0]["prompt"] == "a dog and a cat" and rows[0]["width"] == 256


def test_a_picture_is_made_again_when_anything_it_came_from_changed(
    picture_base: Base, concepts: dict[str, Concept], tmp_path: Path
) -> None:
    item = Item(PAIR, 0)
    predict(picture_base, concepts, [item], tmp_path)
    changes = [
        {"base": {"name": "other"}},
        {"concepts": {"dog": "9", "cat": "2"}},
        {"method": {"name": "lora_composer", "fill_loss": False}},
        {"steps": 3},
    ]
    for change in changes:
        assert not is_done(item, Recipe(**(vars(RECIPE) | change)), tmp_path)
    moved = Layout(**(vars(PAIR) | {"prompt": "a cat and a dog"}))
    assert not is_done(Item(moved, 0), RECIPE, tmp_path)
    item.path(tmp_path, ".png").write_bytes(b"broken")
    assert not is_done(item, RECIPE, tmp_path)


def test_a_failing_picture_does_not_take_its_batch_along(
    picture_base: Base,
    concepts: dict[str, Concept],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from toolkit import sampling
    from toolkit.batch import module

    def noise(base: Base, width: int, height: int, seeds: list[int]) -> torch.Tensor:
        drawn = torch.randn(len(seeds), 4, height // 8, width // 8)
        drawn[[index for index, seed in enumerate(seeds) if seed == 1]] = float("nan")
        return drawn

    monkeypatch.setattr(sampling, "initial_noise", noise)
    assert module.compose is sampling.compose
    items = [Item(PAIR, seed) for seed in (0, 1, 2)]
    writer = predict(picture_base, concepts, items, tmp_path, batch_size=3)
    assert writer.failed == 1
    rows = parquet.read_table(write_manifest(tmp_path, "lora_composer")).to_pylist()
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert "no longer finite" in rows[1]["error"]


def test_a_destroyed_picture_is_failed_with_its_reason_and_has_no_file(
    picture_base: Base, concepts: dict[str, Concept], tmp_path: Path
) -> None:
    writer = predict(picture_base, concepts, [Item(PAIR, 0)], tmp_path, LoraComposer(step_size=1e5))
    (row,) = parquet.read_table(write_manifest(tmp_path, "lora_composer")).to_pylist()
    assert (writer.failed, row["status"], row["image"]) == (1, "failed", None)
    assert "guidance has destroyed the picture at step 0" in row["error"]
    assert error_of(Item(PAIR, 0), tmp_path) == row["error"]  # what the exit code comes from


def test_inference_mode_is_refused(
    picture_base: Base, concepts: dict[str, Concept], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="inference_mode=False"):
        predict(picture_base, concepts, [Item(PAIR, 0)], tmp_path, inference_mode=True)


def test_batches_hold_one_canvas_size_and_lose_nothing() -> None:
    tall = Layout(**(vars(PAIR) | {"name": "tall", "width": 128, "height": 256}))
    items = [Item(layout, seed) for seed in range(3) for layout in (PAIR, tall)]
    batches = make_batches(items, lambda width, height: 2)
    assert sorted(map(len, batches)) == [1, 1, 2, 2]
    assert all(len({item.layout.width for item in batch}) == 1 for batch in batches)
    assert {item for batch in batches for item in batch} == set(items)


@pytest.mark.parametrize(("pictures", "processes"), [(7, 2), (1, 4), (3, 3), (12, 5)])
def test_every_picture_is_one_process_own_and_each_gets_some_of_every_canvas(
    pictures: int, processes: int
) -> None:
    tall = Layout(**(vars(PAIR) | {"name": "tall", "width": 128, "height": 256}))
    items = [Item(layout, seed) for seed in range(pictures) for layout in (PAIR, tall)]
    shares = [share_of(items, rank, processes) for rank in range(processes)]
    assert Counter(item for share in shares for item in share) == Counter(items)
    for layout in (PAIR, tall):
        counts = [sum(item.layout is layout for item in share) for share in shares]
        assert max(counts) - min(counts) <= 1


def test_a_batch_is_as_large_as_free_memory_allows(
    picture_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pictures_that_fit(picture_base, 256, 192) == 1  # on a CPU
    each = picture_base.bytes_of_picture(256, 192)
    assert picture_base.bytes_of_picture(512, 192) == 2 * each
    monkeypatch.setattr(Base, "device", torch.device("cuda"))
    for free, fits in ((each / 2, 1), (3.9 * each, 3), (1000 * each, MOST)):
        monkeypatch.setattr(
            torch.cuda, "mem_get_info", lambda device, free=free: (int(free), 2**40)
        )
        assert pictures_that_fit(picture_base, 256, 192) == fits
