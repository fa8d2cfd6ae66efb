import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_families import write_sd2, write_xl

from toolkit.backbones import Base, Part, load_base
from toolkit.cli import main
from toolkit.concept import load_concept, save_concept
from toolkit.concept.stored import recipe_in
from toolkit.config import read_train
from toolkit.config.cones2 import Cones2Config
from toolkit.config.schema import TrainConfig
from toolkit.errors import InputError
from toolkit.library import learning
from toolkit.training import run
from toolkit.training.cones2 import Cones2Training
from toolkit.training.run import train

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def cones2(make_config: MakeConfig) -> MakeConfig:
    """A config of four short steps of Cones 2; keywords change its training."""

    def make(output_dir: Path | None = None, **training: object) -> TrainConfig:
        options = Cones2Config(
            steps=4, learning_rate=1e-3, checkpoint_every_steps=2, sample_every_steps=0
        )
        config = make_config() if output_dir is None else make_config(output_dir=output_dir)
        return replace(config, training=replace(options, **training))  # type: ignore[arg-type]

    return make


def residual_in(path: Path) -> torch.Tensor:
    found = load_concept(path).residual
    assert found is not None
    return found.float()


def test_training_leaves_a_residual_beside_the_other_recipes_concept(
    cones2: MakeConfig, make_config: MakeConfig, tmp_path: Path, tiny_base: Base
) -> None:
    config = cones2(sample_every_steps=4, sample_prompts=("<rex> on the beach",))
    path = train(config)
    assert path == tmp_path / "outputs/concepts/tiny/cones2/rex.safetensors"
    concept = load_concept(path)
    concept.check_fits(tiny_base)
    assert concept.recipe == recipe_in(path) == "cones2"
    assert concept.class_word == concept.call == "dog" and not concept.token_names
    words = len(tiny_base.token_ids("dog"))
    assert residual_in(path).shape == (words, tiny_base.embedding_shapes[Part.TEXT_ENCODER][1])
    assert concept.training["learning_rate"] == "0.001"
    folder = tmp_path / "outputs/runs/train/tiny/cones2/rex"
    lines = (folder / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,loss,denoising,start_moved,rest_moved,seconds" and len(lines) == 5
    assert (folder / "samples/step_000004.png").is_file()
    assert recipe_in(train(make_config())) == "ed_lora"
    assert path.is_file()


def test_the_base_keeps_its_weights(
    cones2: MakeConfig, tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy.deepcopy({**tiny_base.unet.state_dict(), **tiny_base.text_encoder.state_dict()})
    monkeypatch.setattr(run, "load_base", lambda *_args, **_kwargs: tiny_base)
    train(cones2())
    after = {**tiny_base.unet.state_dict(), **tiny_base.text_encoder.state_dict()}
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_what_was_interrupted_goes_on_and_ends_the_same(
    cones2: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(cones2(output_dir=tmp_path / "whole"))
    seen: list[int] = []
    step = Cones2Training.training_step

    def failing(self: Cones2Training, batch: object, batch_idx: int) -> torch.Tensor:
        seen.append(self.global_step)
        if seen == [0, 1, 2, 3]:
            raise OSError("no space left")
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(Cones2Training, "training_step", failing)
    with pytest.raises(OSError, match="no space"):
        train(cones2())
    resumed = train(cones2())
    assert seen == [0, 1, 2, 3, 2, 3]
    torch.testing.assert_close(residual_in(whole), residual_in(resumed), rtol=0, atol=1e-6)
    train(cones2())
    assert len(seen) == 6, "it was trained again, though it is there"


def test_gradients_are_clipped_as_the_recipe_says(cones2: MakeConfig, tmp_path: Path) -> None:
    clipped = train(cones2(max_grad_norm=1e-6, learning_rate=1e-3))
    free = train(cones2(max_grad_norm=1e6, learning_rate=1e-3, output_dir=tmp_path / "free"))
    assert not torch.allclose(residual_in(clipped), residual_in(free), atol=1e-4)


def test_a_concept_file_is_read_as_it_was_written(cones2: MakeConfig, tmp_path: Path) -> None:
    path = train(cones2())
    save_concept(load_concept(path), tmp_path / "again.safetensors", torch.float32)
    assert torch.equal(residual_in(path), residual_in(tmp_path / "again.safetensors"))


def test_captions_and_masks_that_are_not_used_are_counted(
    cones2: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        train(cones2())
    assert "not used: 2 captions and 3 masks" in caplog.text


def test_other_formats_and_commands_refuse_it_in_one_line(
    cones2: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = train(cones2())
    assert main(["concepts", f"output_dir={tmp_path / 'outputs'}"]) == 0
    (row,) = capsys.readouterr().out.splitlines()[1:]
    assert row.split()[:4] == ["rex", "tiny", "Cones", "2,"]
    assert main(["inspect", str(path)]) == 0
    assert "a concept of this toolkit, Cones 2" in capsys.readouterr().out
    base = f"model.path={cones2().model.path}"
    common = [base, "model.name=tiny", f"output_dir={tmp_path / 'outputs'}"]
    assert main(["export", "rex", "format=kohya", *common]) == 2
    assert main(["import", str(path), "concept=mine", *common]) == 2
    moved = path.parent.parent / "rex.safetensors"
    shutil.copy(path, moved)
    assert main(["export", "rex", "format=kohya", *common]) == 2
    said = capsys.readouterr().err.splitlines()
    told = [line for line in said if line.startswith("toolkit: ")]
    assert len(told) == 3 and all("Cones 2" in line or "cones2" in line for line in told)
    with pytest.raises(InputError, match="Cones 2 concept"):
        learning.export_concept(load_concept(path), tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["recipe=cones2", "training.rank=4"], "recipe=cones2 has no such key"),
        (["training.start_weight=1"], "it is one of recipe=cones2"),
        (["recipe=cones2", "training.learning_rate=-1"], "at least 0"),
        (["recipe=cones"], "nearest: cones2"),
    ],
)
def test_a_recipe_knows_its_keys(typed: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_train(["concept=dog", *typed])


def test_the_defaults_are_the_papers() -> None:
    (config,) = read_train(["concept=dog", "recipe=cones2", "model=sd15"])
    options = config.training
    assert isinstance(options, Cones2Config)
    assert (options.steps, options.batch_size, options.learning_rate) == (4000, 1, 5e-6)
    assert (options.start_weight, options.rest_weight, options.weight_decay) == (1e-2, 1e-3, 1e-2)


def test_stable_diffusion_2_learns_it_and_draws_it(
    cones2: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sd2(tmp_path / "second")
    config = cones2(sample_every_steps=4)
    path = train(replace(config, model=replace(config.model, name="second", path=str(folder))))
    before = load_base(folder, "second")
    words = len(before.token_ids("dog"))
    assert residual_in(path).shape == (words, before.text_width)
    layout = "{name: one, prompt: a dog, width: 128, height: 64, regions: "
    layout += "[{concept: rex, prompt: <rex>, box: [0, 0, 0.5, 1]}]}"
    (tmp_path / "one.yaml").write_text(layout)
    typed = [f"layout={tmp_path / 'one.yaml'}", f"output_dir={tmp_path / 'outputs'}"]
    base = [f"model.path={folder}", "trainer=cpu", "sampling.steps=2"]
    assert main(["compose", "method=cones2", *typed, *base]) == 0, capsys.readouterr().err


def test_a_base_with_two_text_encoders_is_refused_in_one_line(
    cones2: MakeConfig, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_xl(tmp_path / "xl")
    capsys.readouterr()
    concept = ["concept=rex", f"concept.images={images}", "concept.class_word=dog"]
    typed = [f"model.path={folder}", f"output_dir={tmp_path / 'outputs'}", "trainer=cpu"]
    assert main(["train", "recipe=cones2", *concept, *typed]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Cones 2 changes what one text encoder says, and xl" in said
    options = cones2().training
    assert isinstance(options, Cones2Config)
    with pytest.raises(InputError, match="has two"):
        Cones2Training(load_base(folder, "xl"), "rex", {}, "dog", options)


def test_images_are_shown_in_sizes_of_their_own_shape(
    cones2: MakeConfig, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for image in (*images.glob("1.*g"), *images.glob("masks/1.png")):
        with Image.open(image) as square:
            square.resize((128, 64)).save(image)
    with caplog.at_level("INFO"):
        path = train(cones2(buckets=True, batch_size=2))
    assert residual_in(path).abs().max() > 0
    assert "buckets: 64 x 64: 2, 128 x 64: 1" in caplog.text
    assert "not used: 2 captions and 0 masks" in caplog.text
