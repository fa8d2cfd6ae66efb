"""Pictures built so that it is known what is where, and a judge's account of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import toolkit
from toolkit.backbones import load_base
from toolkit.concept import Concept
from toolkit.evaluation.calibration import calibrate, embed_references
from toolkit.evaluation.judges import Judge
from toolkit.evaluation.picture import RegionScores, score_pictures
from toolkit.evaluation.references import Reference, as_drawn
from toolkit.layout.layout import Layout, Region

MINI = Path(toolkit.__file__).parent / "assets" / "mini"
References = Mapping[str, Sequence[Reference]]
LAYOUT = Layout(
    "two",
    "a dog and a cat",
    128,
    64,
    (
        Region("dog", "<dog>, sitting", (0.0, 0.0, 0.4, 1.0)),
        Region("cat", "<cat>, sitting", (0.6, 0.0, 1.0, 1.0)),
    ),
)
LEFT, RIGHT, MIDDLE = (8, 8, 44, 56), (84, 8, 120, 56), (46, 8, 82, 56)


def concept(name: str) -> Concept:
    return Concept(
        name, torch.zeros(2, 16, 4), (f"<{name}1>", f"<{name}2>"), {}, {}, class_word=name
    )


def scores(
    judge: Judge, references: References, folder: Path, *placed: tuple[str, tuple[int, ...]]
) -> dict[str, RegionScores]:
    picture = Image.new("RGB", (LAYOUT.width, LAYOUT.height), "black")
    for colour, (x0, y0, x1, y1) in placed:
        picture.paste(Image.new("RGB", (x1 - x0, y1 - y0), colour), (x0, y0))
    picture.save(folder / "0.png")
    seen = embed_references(judge, references, references)
    calibration = calibrate(judge, references, seen)
    concepts = {name: concept(name) for name in LAYOUT.concepts}
    shown = [(folder / "0.png", LAYOUT)]
    (found,) = score_pictures(judge, shown, concepts, seen, calibration)
    return {score.concept: score for score in found}


def test_subjects_in_their_boxes_are_there_and_themselves(
    judge: Judge, references: References, tmp_path: Path
) -> None:
    for score in scores(judge, references, tmp_path, ("red", LEFT), ("lime", RIGHT)).values():
        assert (score.vanished, score.confused) == (False, False)
        assert score.placement is not None and score.placement > 0.9
        assert score.text_similarity is not None and score.text_similarity > 2.4


def test_an_empty_box_has_vanished_and_is_not_confused(
    judge: Judge, references: References, tmp_path: Path
) -> None:
    found = scores(judge, references, tmp_path, ("red", LEFT))
    assert (found["cat"].vanished, found["cat"].confused) == (True, False)
    assert (found["dog"].vanished, found["dog"].confused) == (False, False)


def test_swapped_subjects_are_confused(
    judge: Judge, references: References, tmp_path: Path
) -> None:
    for score in scores(judge, references, tmp_path, ("lime", LEFT), ("red", RIGHT)).values():
        assert score.confused
        assert score.placement == 0.0


def test_a_subject_beside_its_box_is_misplaced(
    judge: Judge, references: References, tmp_path: Path
) -> None:
    found = scores(judge, references, tmp_path, ("red", MIDDLE), ("lime", RIGHT))
    assert found["dog"].placement is not None and found["dog"].placement < 0.6
    assert found["cat"].placement is not None and found["cat"].placement > 0.9


def test_image_similarity_is_higher_for_the_right_subject(
    judge: Judge, references: References, tmp_path: Path
) -> None:
    right = scores(judge, references, tmp_path, ("red", LEFT), ("lime", RIGHT))
    wrong = scores(judge, references, tmp_path, ("blue", LEFT), ("blue", RIGHT))
    for name in LAYOUT.concepts:
        assert right[name].image_similarity > wrong[name].image_similarity + 0.1


def test_a_judge_of_similarity_alone_scores_nothing_else(
    judge: Judge, references: References, tmp_path: Path
) -> None:
    full = scores(judge, references, tmp_path, ("red", LEFT), ("lime", RIGHT))
    seen = embed_references(judge, references, references)
    concepts = {name: concept(name) for name in LAYOUT.concepts}
    shown = [(tmp_path / "0.png", LAYOUT)]
    (found,) = score_pictures(judge, shown, concepts, seen, None)
    for score in found:
        assert (score.vanished, score.confused, score.placement) == (None, None, None)
        assert score.image_similarity == full[score.concept].image_similarity


def test_many_pictures_are_scored_as_each_alone(
    judge: Judge, references: References, tmp_path: Path
) -> None:
    """More than are embedded together, of two layouts in turn."""
    one = replace(LAYOUT, name="one", regions=LAYOUT.regions[:1])
    shown = []
    for number in range(20):
        colour = ("red", "lime", "blue")[number % 3]
        picture = Image.new("RGB", (LAYOUT.width, LAYOUT.height), "black")
        picture.paste(Image.new("RGB", (36, 48), colour), LEFT[:2])
        picture.save(tmp_path / f"{number}.png")
        shown.append((tmp_path / f"{number}.png", (LAYOUT, one)[number % 2]))
    seen = embed_references(judge, references, references)
    concepts = {name: concept(name) for name in LAYOUT.concepts}
    calibration = calibrate(judge, references, seen)
    together = list(score_pictures(judge, shown, concepts, seen, calibration))
    assert [len(scores) for scores in together] == [2, 1] * 10
    for picture_and_layout, found in zip(shown, together, strict=True):
        alone = score_pictures(judge, [picture_and_layout], concepts, seen, calibration)
        assert next(alone) == found


def test_what_vanished_or_is_confused_has_collapsed(
    judge: Judge, references: References, tmp_path: Path
) -> None:
    found = scores(judge, references, tmp_path, ("red", LEFT))
    assert (found["dog"].collapsed, found["cat"].collapsed) == (False, True)
    swapped = scores(judge, references, tmp_path, ("lime", LEFT), ("red", RIGHT))
    assert swapped["dog"].collapsed and swapped["cat"].collapsed
    assert found["dog"].scr is None and found["dog"].whole_similarity is None


def test_the_subject_collapse_rate_compares_the_whole_picture(
    judge: Judge, references: References, tmp_path: Path
) -> None:
    """A dog that fills the picture looks like a dog, whatever the boxes say."""
    judge.tells_collapse = True
    picture = ("red", (0, 0, LAYOUT.width, LAYOUT.height))
    found = scores(judge, references, tmp_path, picture)
    whole = Image.new("RGB", (LAYOUT.width, LAYOUT.height), "red")
    for name, score in found.items():
        shown = [reference.image for reference in references[name]]
        cosine = float((judge.images([whole]) @ judge.images(shown).T).mean())
        assert score.whole_similarity == pytest.approx(cosine, abs=1e-5)
        assert score.scr == tuple(cosine < line for line in (0.4, 0.5, 0.6))
    assert found["dog"].whole_similarity > found["cat"].whole_similarity  # type: ignore[operator]


def test_a_judge_tells_its_error_rates(judge: Judge, references: References) -> None:
    seen = embed_references(judge, references, references)
    found = calibrate(judge, references, seen)
    assert (found.missed, found.mistaken, found.overlooked) == (0, 0, 0)
    assert found.filled <= 0.1
    assert found.placed > 0.9 and found.misplaced < found.placed / 2
    assert set(found.thresholds) == set(references)


def test_a_judge_that_cannot_tell_concepts_apart_says_so(references: References) -> None:
    class Blind:
        name = "blind"
        tells_presence = True
        tells_collapse = False

        def images(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
            return torch.ones(len(pictures), 4) / 2

        def texts(self, texts: Sequence[str]) -> None:
            return None

    found = calibrate(Blind(), references, embed_references(Blind(), references, references))
    assert found.overlooked == 1.0
    assert max(found.missed, found.filled) == 1.0


def test_without_masks_nothing_is_called_vanished(judge: Judge, references: References) -> None:
    plain = {
        name: [Reference(image.image, None) for image in images]
        for name, images in references.items()
    }
    found = calibrate(judge, plain, embed_references(judge, plain, plain))
    assert not found.thresholds


@pytest.mark.parametrize("side", ["left", "above"])
def test_the_empty_crop_holds_nothing_of_the_subject(side: str) -> None:
    box = (40, 10, 60, 50) if side == "left" else (2, 40, 62, 60)
    picture = Image.new("RGB", (64, 64), "black")
    picture.paste(Image.new("RGB", (box[2] - box[0], box[3] - box[1]), "red"), box[:2])
    empty = Reference(picture, box).empty
    assert empty is not None
    assert empty.width == empty.height and empty.getextrema()[0] == (0, 0)


def test_a_reference_as_drawn_shows_the_same_at_the_bases_size() -> None:
    """The embedded base's own autoencoder, on an image twice its size."""
    base = load_base(MINI, "mini", guidance_downscale=2)
    picture = Image.new("RGB", (384, 256), "white")
    picture.paste("red", (64, 32, 192, 224))
    seen = as_drawn(Reference(picture, (64, 32, 192, 224)), base, 128)
    assert seen.image.size == (192, 128)
    assert seen.subject == (32, 16, 96, 112)
    portrait = np.asarray(seen.portrait, dtype=float).mean(axis=(0, 1))
    assert portrait[0] > 200 and portrait[1:].max() < 90
    assert np.asarray(seen.image, dtype=float)[64, 180].min() > 220
    assert as_drawn(seen, replace(base, vae=None), 128) is seen
