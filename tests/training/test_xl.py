"""Training an ED-LoRA on Stable Diffusion XL: two text encoders, and pictures' true sizes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixed_training import STEPS, batch_of, generator, training_on
from PIL import Image
from tiny_families import write_xl

from toolkit.backbones import Base, Part, load_base, waiting
from toolkit.backbones.unet.framing import Framing
from toolkit.backbones.unet.names import TEXT_PARTS
from toolkit.backbones.waiting import WAIT_WHILE_TRAINING
from toolkit.concept import Concept, load_concept
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.formats.write import write_foreign
from toolkit.config import Format, read_train
from toolkit.config.schema import TrainConfig
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.data import Draws, Shown, TrainingBatch, batch_at
from toolkit.training.ed_lora import initial_embeddings
from toolkit.training.frames import Frame
from toolkit.training.latent_store import LatentStore
from toolkit.training.module import ConceptTraining
from toolkit.training.run import train
from toolkit.training.views import ImageViews, Views

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xl(tmp_path_factory.mktemp("xl"))


@pytest.fixture
def xl(folder: Path) -> Base:
    return load_base(folder, "tinyxl")


@pytest.fixture
def make_xl_config(make_config: MakeConfig, folder: Path) -> MakeConfig:
    def make(**more: object) -> TrainConfig:
        config = make_config(**more)
        return replace(config, model=replace(config.model, name="tinyxl", path=str(folder)))

    return make


def check_equal(first: Concept, second: Concept) -> None:
    """To the bit."""
    for part, own in first.token_embeddings.items():
        assert torch.equal(own, second.token_embeddings[part])
    for part, changes in first.changes.items():
        assert changes.keys() == second.changes[part].keys()
        for path, pair in changes.items():
            assert torch.equal(pair.down, second.changes[part][path].down)
            assert torch.equal(pair.up, second.changes[part][path].up)


def test_both_text_encoders_and_all_70_blocks_learn_and_the_file_round_trips(
    make_xl_config: MakeConfig, xl: Base, tmp_path: Path
) -> None:
    concept = load_concept(train(make_xl_config(sample_every_steps=4)))
    concept.check_fits(xl)
    start = initial_embeddings(xl, "dog", generator())
    for part in TEXT_PARTS:
        assert concept.token_embeddings[part].shape[:2] == (2, 11)
        moved = concept.token_embeddings[part].float() - start[part]
        assert moved.abs().amax() > 1e-3
        # of the first encoder the last layer but one is heard; the second is pooled at its end
        layers = {Part.TEXT_ENCODER: 2, Part.TEXT_ENCODER_2: 3}[part]
        assert len(concept.changes[part]) == layers * 4
        assert all(pair.up.any() for pair in concept.changes[part].values())
    assert len(concept.unet) == 70 * 8
    assert sum(bool(pair.up.any()) for pair in concept.unet.values()) > 70 * 7
    written = write_foreign(concept, Format.KOHYA, tmp_path / "rex.safetensors")
    read = read_foreign(written.files[0], "rex", xl, "dog")
    for part, changes in concept.changes.items():
        assert read.changes[part].keys() == changes.keys()
        for path, pair in changes.items():
            assert torch.equal(read.changes[part][path].up, pair.up.float())


def test_a_training_that_goes_on_ends_with_the_same_bits(
    make_xl_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(make_xl_config(output_dir=tmp_path / "whole"))
    seen: list[int] = []
    step = ConceptTraining.training_step

    def failing(self: ConceptTraining, batch: TrainingBatch, batch_idx: int) -> torch.Tensor:
        seen.append(self.global_step)
        if seen == [0, 1, 2, 3]:
            raise OSError("no space left")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ConceptTraining, "training_step", failing)
    with pytest.raises(OSError, match="no space"):
        train(make_xl_config())
    resumed = train(make_xl_config())
    assert seen == [0, 1, 2, 3, 2, 3]
    check_equal(load_concept(whole), load_concept(resumed))


def test_the_loss_on_a_fixed_batch_falls_to_under_half_in_40_steps(xl: Base, images: Path) -> None:
    batch = batch_of(xl, images, 1, size=(32, 32))
    with xl.lora_injected(4, generator()), xl.heard_by_layer():
        training = training_on(xl)
        prompts = training.prompts(batch)
        optimizer = training.configure_optimizers()["optimizer"]
        losses = []
        for _ in range(STEPS):
            loss = training.errors(batch, prompts).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        with torch.no_grad():
            last = float(training.errors(batch, prompts).mean())
    assert last < losses[0] / 2, (losses[0], last)


def test_the_unet_is_told_each_pictures_true_size_and_cut(xl: Base, tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), "red").save(tmp_path / "wide.png")
    Image.new("RGB", (60, 120), "red").save(tmp_path / "high.png")
    wide, high = (ConceptImage(tmp_path / f"{name}.png", "<rex>") for name in ("wide", "high"))
    views = ImageViews(xl, (wide, high), Views((64, 64)))
    batch = batch_at(0, Shown(views), Draws(0, 2, 0.0, 1000))
    told: list[list[float]] = []

    def see(_module: object, _inputs: object, named: dict[str, dict[str, torch.Tensor]]) -> None:
        told.extend(named["added_cond_kwargs"]["time_ids"].tolist())

    handle = xl.unet.register_forward_pre_hook(see, with_kwargs=True)
    with xl.lora_injected(4, generator()), xl.heard_by_layer():
        training = training_on(xl)
        training.errors(batch, training.prompts(batch))
    handle.remove()
    # 200 x 100 is scaled to 128 x 64, 60 x 120 to 64 x 128; the middle is shown of both
    assert sorted(told) == [[100, 200, 0, 32, 64, 64], [120, 60, 32, 0, 64, 64]]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (Frame((64, 64), (0.25, 0.5)), (256, 64)),
        (Frame((64, 64), (0.5, 0.75)), (128, 512)),
        (Frame((64, 96), (1.0, 0.0), zoom=0.5), (256, 192)),
    ],
)
def test_the_corner_of_a_cut_is_where_the_cut_is(
    frame: Frame, size: tuple[int, int], mirrored: bool
) -> None:
    across = Image.linear_gradient("L").rotate(90).resize(size)  # dark at the left
    down = Image.linear_gradient("L").resize(size)
    places = []
    for gradient in (down, across):
        shown = frame.of(gradient)
        if mirrored and gradient is across:
            shown = shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        places.append(shown.getpixel((0, 0)) / 255)
    top, left = frame.corner(size, mirrored)
    scale = max(own / (side * frame.zoom) for own, side in zip(frame.size, size, strict=True))
    if mirrored:
        places[1] = 1 - places[1]
    assert top / (size[1] * scale) == pytest.approx(places[0], abs=0.02)
    assert left / (size[0] * scale) == pytest.approx(places[1], abs=0.02)


def test_kept_latents_know_what_they_were_cut_from(
    xl: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (200, 100), "red").save(tmp_path / "wide.png")
    image = ConceptImage(tmp_path / "wide.png", "<rex>")
    expected = Framing((100, 200), (0, 32), (64, 64))
    for _ in range(2):
        store = LatentStore(tmp_path / "cache", "")
        views = ImageViews(xl, (image,), Views((64, 64)), store)
        assert views(0, generator()).framing == expected
        monkeypatch.setattr(ImageViews, "_encode", None)  # the second time it is read


def test_each_distinct_caption_is_encoded_once_in_a_step(xl: Base, images: Path) -> None:
    for number in range(3):
        (images / f"{number}.txt").write_text("<rex>")
    (images / "1.caption").unlink()
    batch = batch_of(xl, images, 4, (64, 64))
    rows: list[int] = []

    def see(_module: object, _inputs: object, named: dict[str, torch.Tensor]) -> None:
        rows.append(len(named["input_ids"]))

    xl.text_encoder.register_forward_pre_hook(see, with_kwargs=True)
    with xl.lora_injected(4, generator()), xl.heard_by_layer():
        training = training_on(xl)
        training.errors(batch, training.prompts(batch))
    assert rows == [11]


def test_each_text_encoders_embeddings_are_held_by_their_own_length(xl: Base) -> None:
    with xl.lora_injected(4, generator()):
        training = training_on(xl)
        training.max_embedding_norm = 1.0
        lengths = {Part.TEXT_ENCODER: 2.0, Part.TEXT_ENCODER_2: 0.5}
        for part, embeddings in training.token_embeddings.items():
            embeddings.data = torch.ones_like(embeddings) * lengths[part]
            embeddings.data /= embeddings.shape[2] ** 0.5
            embeddings.grad = torch.ones_like(embeddings)
        training.on_before_optimizer_step(training.configure_optimizers()["optimizer"])
        assert training.embeddings.grad is None and training.embeddings_2.grad is not None


def test_an_xl_base_is_trained_on_at_1024() -> None:
    (config,) = read_train(["concept=dog", "model=sdxl"])
    model = config.model
    assert (model.width, model.height) == (1024, 1024)


def test_the_autoencoder_waits_while_the_rest_trains(
    make_xl_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train(make_xl_config(output_dir=tmp_path / "plain", sample_every_steps=4))
    moved: list[str] = []
    monkeypatch.setattr(waiting, "move", lambda own, _device: moved.append(type(own).__name__))
    config = make_xl_config(output_dir=tmp_path / "spared", sample_every_steps=4)
    spared = train(replace(config, model=replace(config.model, offload=True)))
    assert set(moved) == {"AutoencoderKL"}
    check_equal(load_concept(plain), load_concept(spared))


def test_lightning_leaves_the_autoencoder_where_it_waits(folder: Path) -> None:
    base = load_base(folder, "tinyxl", waiting=WAIT_WHILE_TRAINING)
    with base.lora_injected(4, generator()):
        held = set(training_on(base).parameters())
    assert base.vae is not None and base.text_encoder_2 is not None
    assert not held & set(base.vae.parameters())
    assert {*base.unet.parameters(), *base.text_encoder_2.parameters()} <= held
