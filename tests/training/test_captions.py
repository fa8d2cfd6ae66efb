"""Captions that vary from step to step."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from toolkit.config.schema import TrainConfig
from toolkit.training.captions import Captions
from toolkit.training.concept_folder import ConceptImage, read_concept_folder
from toolkit.training.module import ConceptTraining
from toolkit.training.run import train

MakeConfig = Callable[..., TrainConfig]


def drawn(captions: Captions, image: ConceptImage, times: int = 400) -> Counter[str]:
    generator = torch.Generator().manual_seed(0)
    return Counter(captions.at(image, generator) for _ in range(times))


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What training is told of its pictures, in order."""
    found: list[str] = []
    step = ConceptTraining.training_step

    def listening(self: ConceptTraining, batch: object, batch_idx: int) -> torch.Tensor:
        found.extend(batch.captions)  # type: ignore[attr-defined]
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(ConceptTraining, "training_step", listening)
    return found


def test_captions_are_left_out_as_often_as_asked() -> None:
    image = ConceptImage(Path("a.png"), "<rex> on grass")
    found = drawn(Captions(dropout=0.25), image)
    assert set(found) == {"", "<rex> on grass"} and 70 <= found[""] <= 130
    assert set(drawn(Captions(), image)) == {"<rex> on grass"}


def test_the_first_tags_stay_and_the_others_come_in_every_order() -> None:
    image = ConceptImage(Path("a.png"), "<rex>, dog, grass, sun,sky")
    found = drawn(Captions(shuffle_tags=True, keep_tags=2), image)
    assert len(found) == 6 and all(caption.startswith("<rex>, dog, ") for caption in found)
    assert {frozenset(caption.split(", ")) for caption in found} == {
        frozenset(("<rex>", "dog", "grass", "sun", "sky"))
    }
    assert len(drawn(Captions(shuffle_tags=True, keep_tags=0), image)) > 100


def test_each_line_is_a_caption_of_its_own(images: Path) -> None:
    (images / "0.txt").write_text("<rex> on the left\n\n a red square \r\n<rex1> <rex2>\n")
    image = read_concept_folder(images, "rex").images[0]
    lines = ("<rex> on the left", "<rex> a red square", "<rex1> <rex2>")
    assert image.lines == lines
    found = drawn(Captions(), image)
    assert set(found) == set(lines) and min(found.values()) > 90
    (images / "0.txt").write_text("<rex> on the left\n")
    assert read_concept_folder(images, "rex").images[0].lines == ()


def test_lines_are_one_caption_unless_asked_for(
    make_config: MakeConfig, images: Path, heard: list[str]
) -> None:
    for number in range(3):
        (images / f"{number}.txt").write_text("<rex>\n<rex> there")
    train(make_config())
    assert set(heard) == {"<rex> <rex> there"}
    heard.clear()
    train(make_config(caption_lines=True))
    assert set(heard) == {"<rex>", "<rex> there"}


def test_a_caption_may_be_the_class_word_alone(make_config: MakeConfig, heard: list[str]) -> None:
    train(make_config(captions="class_word", steps=2))
    assert set(heard) == {"<rex> dog"}


def test_training_goes_on_where_no_caption_names_the_concept(
    make_config: MakeConfig, heard: list[str]
) -> None:
    assert train(make_config(caption_dropout=1.0, steps=2)).is_file()
    assert set(heard) == {""}
