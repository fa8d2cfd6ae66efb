"""The judge of cleanliness: finds pictures spoilt on purpose, and leaves clean ones alone."""

import logging
import re
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

import toolkit
from toolkit.backbones import load_base
from toolkit.evaluation.cleanliness import CleanJudge, changed_outside, fit_judge
from toolkit.evaluation.references import as_drawn, read_references
from toolkit.evaluation.spoil import WAYS, spoilt
from toolkit.evaluation.texture import statistics
from toolkit.layout.layout import Layout, Region

MINI = Path(toolkit.__file__).parent / "assets" / "mini"
NAMES = ("dog", "cat", "fox", "robot")
REGION = Region("dog", "<dog>", (0.0, 0.0, 0.5, 1.0))


@pytest.fixture(scope="module")
def singles() -> dict[str, list[Image.Image]]:
    """The example concepts' pictures as the embedded base could draw them at best."""
    base = load_base(MINI, "mini", guidance_downscale=2)
    return {
        name: [as_drawn(image, base, 128).image for image in images]
        for name, images in read_references(dict.fromkeys(NAMES, Path())).items()
    }


@pytest.fixture(scope="module")
def fitted(singles: dict[str, list[Image.Image]]) -> tuple[CleanJudge, str]:
    """The judge without each concept's last pictures, and what it says of itself."""
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logger = logging.getLogger("toolkit.evaluation.cleanliness")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    judge = fit_judge({(name, f"<{name}>"): [own[:-2]] for name, own in singles.items()})
    logger.removeHandler(handler)
    return judge, said[-1].getMessage()


@pytest.mark.parametrize("way", list(WAYS))
def test_pictures_it_never_saw_are_stranger_when_spoilt_and_clean_ones_are_left_alone(
    way: str, singles: dict[str, list[Image.Image]], fitted: tuple[CleanJudge, str]
) -> None:
    judge, _ = fitted
    found = [
        judge.strangeness(spoilt(picture, way, seed), Region(name, f"<{name}>", REGION.box))
        for name, own in singles.items()
        for seed, picture in enumerate(own[-2:])
    ]
    clean = [
        judge.strangeness(picture, Region(name, f"<{name}>", REGION.box))
        for name, own in singles.items()
        for picture in own[-2:]
    ]
    assert sum(value > judge.threshold for value in clean) == 0
    assert all(after > before for before, after in zip(clean, found, strict=True))
    if way != "melted":  # which is stranger than before, but not always beyond the line
        assert all(value > judge.threshold for value in found)


def test_it_says_how_often_it_is_wrong(fitted: tuple[CleanJudge, str]) -> None:
    _, said = fitted
    assert float(re.search(r"as they are ([\d.]+)%", said)[1]) <= 5  # type: ignore[index]
    for way in ("noise", "mosaic", "specks"):
        assert int(re.search(rf"{way} (\d+)%", said)[1]) >= 90, said  # type: ignore[index]


def test_the_same_seed_spoils_the_same_way(singles: dict[str, list[Image.Image]]) -> None:
    picture = singles["dog"][0]
    for way in WAYS:
        assert spoilt(picture, way, 3).tobytes() == spoilt(picture, way, 3).tobytes()
        assert spoilt(picture, way, 3).size == picture.size


def test_statistics_do_not_depend_on_where_the_picture_is_cut_by_much() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = Image.new("RGB", (160, 160), "skyblue")
    draw = ImageDraw.Draw(picture)
    for x, y in torch.randint(0, 150, (60, 2), generator=generator).tolist():
        draw.ellipse((x, y, x + 30, y + 20), fill=("brown", "green", "orange")[x % 3])
    whole, part = statistics(picture), statistics(picture.crop((20, 20, 140, 140)))
    assert (whole - part).abs().max() < 0.35


def test_flat_and_small_pictures_have_finite_statistics() -> None:
    assert statistics(Image.new("RGB", (16, 16), "black")).isfinite().all()


def test_what_changed_outside_the_boxes_is_a_share_of_that_alone() -> None:
    layout = Layout("two", "a dog", 64, 32, (REGION,))
    empty = Image.new("RGB", (64, 32), "black")
    inside, outside = empty.copy(), empty.copy()
    inside.paste("white", (2, 2, 28, 28))
    outside.paste("white", (48, 0, 64, 32))
    assert changed_outside(empty, empty, layout) == 0
    assert changed_outside(inside, empty, layout) == 0
    assert changed_outside(outside, empty, layout) == pytest.approx(0.5, abs=0.05)
    full = Layout("full", "a dog", 64, 32, (Region("dog", "<dog>", (0.0, 0.0, 1.0, 1.0)),))
    assert changed_outside(outside, empty, full) is None
