"""Pictures of the class word beside those of the concept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit.backbones import Base
from toolkit.config.schema import TrainConfig
from toolkit.errors import InputError
from toolkit.training.concept_folder import ConceptImage, read_concept_folder
from toolkit.training.data import Draws, Shown, TrainingBatch, batch_at
from toolkit.training.module import ConceptTraining
from toolkit.training.prior import Prior
from toolkit.training.run import train
from toolkit.training.views import ImageViews, Views

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    folder = tmp_path / "dogs"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (80, 64), (60 * number, 99, 0)).save(folder / f"{number}.png")
    return folder


def test_the_loss_is_the_concepts_and_weight_times_the_priors(
    tiny_base: Base, images: Path, dogs: Path
) -> None:
    found = read_concept_folder(images, "rex").images
    others = [ConceptImage(path, "dog") for path in sorted(dogs.iterdir())]
    views = ImageViews(tiny_base, found, Views((64, 64)))
    prior = Prior(ImageViews(tiny_base, others, Views((64, 64))), weight=0.3)
    draws = Draws(0, 2, 0.0, 1000)
    alone, both = (batch_at(5, Shown(views, prior=given), draws) for given in (None, prior))
    assert torch.equal(both.latents[:2], alone.latents)
    assert torch.equal(both.noise[:2], alone.noise)
    assert both.captions == (*alone.captions, "dog", "dog")
    errors = torch.tensor([3.0, 5.0, 7.0, 11.0])
    assert float((errors * both.weights).mean()) == pytest.approx(4 + 0.3 * 9)


def batches_of(monkeypatch: pytest.MonkeyPatch) -> list[TrainingBatch]:
    found: list[TrainingBatch] = []
    step = ConceptTraining.training_step

    def watched(self: ConceptTraining, batch: TrainingBatch, batch_idx: int) -> torch.Tensor:
        found.append(batch)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ConceptTraining, "training_step", watched)
    return found


def test_a_folder_of_the_class_word_is_learned_beside_the_concept(
    make_config: MakeConfig, dogs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = batches_of(monkeypatch)
    train(make_config(prior=str(dogs), prior_weight=0.5))
    assert all(batch.captions[2:] == ("dog", "dog") for batch in batches)
    number = len(batches)
    train(make_config(prior=str(dogs), prior_weight=0.5))
    assert len(batches) == number, "it is trained"
    Image.new("RGB", (80, 64), "blue").save(dogs / "0.png")
    train(make_config(prior=str(dogs), prior_weight=0.5))
    assert len(batches) > number


def test_the_base_makes_pictures_of_the_class_word_once(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = batches_of(monkeypatch)
    train(make_config(prior="3", steps=2))
    (folder,) = (tmp_path / "outputs/prior/tiny").iterdir()
    pictures = sorted(folder.iterdir())
    assert [path.name for path in pictures] == ["00000.png", "00001.png", "00002.png"]
    assert len({np.asarray(Image.open(path)).tobytes() for path in pictures}) == 3
    assert all(batch.captions[2:] == ("dog", "dog") for batch in batches)
    made = [path.stat().st_mtime_ns for path in pictures]
    pictures[1].unlink()
    train(make_config(prior="3", steps=3))
    assert [pictures[place].stat().st_mtime_ns for place in (0, 2)] == [made[0], made[2]]
    assert pictures[1].is_file()


@pytest.mark.parametrize(
    ("typed", "said"), [("0", "from 1 to"), ("nowhere", "no such folder"), (".", "holds no images")]
)
def test_a_prior_that_is_none_is_refused(
    typed: str, said: str, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match=said):
        train(make_config(prior=typed))
