"""The scorer learns from captions that are true, of art it may see, and keeps what it learned."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from base import scorer
from base.scenes import Painter
from diffusers import AutoencoderTiny
from PIL import Image
from torch.nn.utils import parametrize


def test_what_a_card_is_said_to_show_is_what_is_pasted(painter: Painter) -> None:
    rng = np.random.default_rng(0)
    shown = []
    for _ in range(60):
        picture, content = scorer.draw_card(painter, rng)
        pixels = np.asarray(picture)
        reds = set(pixels[pixels[..., 2] == 0][:, 0])
        if content.name:
            assert reds == {painter.art[content.name, content.style].getpixel((0, 0))[0]}
        else:
            assert not reds
        shown.append(content)
    assert any(not content.name for content in shown)


def test_no_card_shows_a_held_out_pair(painter: Painter) -> None:
    rng = np.random.default_rng(1)
    held_out = set(painter.world.held_out_pairs())
    drawn = {(c.name, c.style) for c in (scorer.draw_card(painter, rng)[1] for _ in range(400))}
    assert len(drawn) > 40 and not drawn & held_out


def test_a_caption_is_true_of_its_picture_and_says_what_its_content_says(
    painter: Painter,
) -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        _, shown = scorer.draw_card(painter, rng)
        text, said = scorer.caption(rng, shown)
        assert said.holds_for(shown)
        assert all(part in text for part in (said.name, said.style, said.where))


def test_a_caption_is_false_of_another_name_style_or_place() -> None:
    said = scorer.Content("dog", "flat", "")
    assert said.holds_for(scorer.Content("dog", "flat", "on the grass"))
    assert not said.holds_for(scorer.Content("cat", "flat", ""))
    assert not said.holds_for(scorer.Content("dog", "cartoon", ""))
    assert not scorer.Content("dog", "", "at night").holds_for(said)


def test_the_loss_is_lowest_when_true_pairs_alone_are_alike() -> None:
    true = torch.tensor([[True, False, True], [False, True, False], [True, False, True]])
    right = torch.where(true, 20.0, 0.0)
    swapped = right.roll(1, 0)
    floor = 2 / 3 * np.log(2)  # two texts are equally true of two of the pictures
    assert scorer.contrastive_loss(right, true).item() == pytest.approx(floor, abs=1e-4)
    assert scorer.contrastive_loss(swapped, true).item() > 5


def test_a_spread_projection_is_unchanged_until_it_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(500, 12, generator=generator) * torch.logspace(0, -2, 12)
    projection = torch.nn.Linear(12, 6, bias=False)
    before = projection(pooled).detach()
    parametrize.register_parametrization(projection, "weight", scorer.Spread(pooled))
    assert torch.allclose(projection(pooled), before, atol=1e-4)


@pytest.mark.parametrize(("spread", "told"), [(True, 1.0), (False, 0.5)])
def test_names_whose_states_hardly_differ_are_told_apart_when_spread(
    spread: bool, told: float
) -> None:
    """Eight names differ by a hundredth of what captions differ by for other reasons."""
    generator = torch.Generator().manual_seed(0)
    name = torch.arange(8).repeat(64)
    pooled = torch.randn(512, 24, generator=generator)
    pooled[:, :8] = 1 + 1e-2 * torch.nn.functional.one_hot(name, 8)
    projection = torch.nn.Linear(24, 8, bias=False)
    torch.nn.init.normal_(projection.weight, std=0.1, generator=generator)
    if spread:
        parametrize.register_parametrization(projection, "weight", scorer.Spread(pooled))
    optimizer = torch.optim.AdamW(projection.parameters(), lr=1e-2)
    for _ in range(300):
        loss = torch.nn.functional.cross_entropy(projection(pooled), name)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (projection(pooled).argmax(dim=1) == name).float().mean().item()
    assert right == told if spread else right < told


def test_sameness_is_lowest_when_every_row_finds_its_fellow() -> None:
    rows = torch.eye(6)
    assert scorer.sameness_loss(rows, rows).item() < 0.01
    assert scorer.sameness_loss(rows, rows.roll(1, 0)).item() > 5


def test_pairs_show_one_thing_in_two_styles_and_never_held_out_art(
    painter: Painter, tmp_path: Path
) -> None:
    """The red of a picture says which thing it shows, the green in which folder that lay."""
    folders = {"flat": 50, "cartoon": 100, "held_out": 250}
    with zipfile.ZipFile(tmp_path / "art.zip", "w") as pack:
        for thing in range(30):
            for folder, green in folders.items():
                packed = io.BytesIO()
                art = Image.new("RGBA", (64, 64), (8 * thing, green, 0, 255))
                art.save(packed, "WEBP", lossless=True)
                pack.writestr(f"{folder}/t{thing}.webp", packed.getvalue())
    pairs = scorer.Pairs(painter, tmp_path / "art.zip", AutoencoderTiny(), np.random.default_rng(0))
    pairs.weather = lambda pixels: pixels
    first, second = ((side + 1) * 127.5 for side in pairs.batch())
    for one, other in zip(first, second, strict=True):
        seen = [picture[:, picture[2] == 0].unique(dim=1) for picture in (one, other)]
        assert all(colours.shape[1] == 1 for colours in seen)
        assert seen[0][0] == seen[1][0]
        assert {round(float(colours[1])) for colours in seen} == {50, 100}


def test_weathered_pictures_stay_pictures_of_the_same_thing() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(8, 3, 64, 64) * 2 - 1
    changed = scorer.weathered(pixels, AutoencoderTiny().eval(), np.random.default_rng(0))
    assert changed.shape == pixels.shape and changed.abs().max() <= 1
    untouched_by_autoencoder = torch.stack([changed[4:], pixels[4:]]).flatten(2)
    for one, other in zip(*untouched_by_autoencoder, strict=True):
        assert torch.corrcoef(torch.stack([one, other]))[0, 1] > 0.5


def test_a_saved_scorer_scores_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = scorer.Scorer(32).eval()
    for weight in made.parameters():
        weight.data = weight.data.half().float()
    pixels, pooled = torch.randn(2, 3, 64, 64), torch.randn(3, 32)
    expected = made.logits(pixels, pooled)
    scorer.save(made, tmp_path / "scorer")
    read = scorer.load(tmp_path / "scorer").eval()
    assert torch.allclose(read.logits(pixels, pooled), expected, atol=1e-4)
