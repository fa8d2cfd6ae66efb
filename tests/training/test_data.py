from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from toolkit.backbones import Base
from toolkit.training.concept_folder import read_concept_folder
from toolkit.training.data import Draws, Shown, TrainingBatch, batch_at
from toolkit.training.order import order
from toolkit.training.views import ImageViews, Views

DRAWS = Draws(seed=0, batch_size=2, noise_offset=0.01, timesteps=1000)


def images_of(base: Base, folder: Path, **views: bool) -> ImageViews:
    return ImageViews(base, read_concept_folder(folder, "rex").images, Views((64, 64), **views))


def same(first: TrainingBatch, second: TrainingBatch) -> bool:
    return (
        torch.equal(first.latents, second.latents)
        and torch.equal(first.noise, second.noise)
        and torch.equal(first.timesteps, second.timesteps)
        and first.captions == second.captions
    )


def test_a_step_sees_the_same_whatever_came_before(tiny_base: Base, images: Path) -> None:
    for crop in (False, True):
        first = images_of(tiny_base, images, crop=crop, mirror=True)
        run = [batch_at(step, Shown(first), DRAWS) for step in range(6)]
        alone = batch_at(5, Shown(images_of(tiny_base, images, crop=crop, mirror=True)), DRAWS)
        assert same(run[5], alone)
        assert not same(run[4], run[5])


def test_seed_and_rank_change_what_is_drawn(tiny_base: Base, images: Path) -> None:
    views = images_of(tiny_base, images)
    noises = [
        batch_at(0, Shown(views), Draws(seed, 2, 0.0, 1000, rank, 2)).noise
        for seed, rank in ((0, 0), (0, 1), (1, 0))
    ]
    assert not any(torch.equal(noises[i], noises[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_every_round_shows_each_image_as_often_as_its_repeats() -> None:
    repeats = (1, 3, 2)
    rounds = [order(repeats, start, 6, seed=0) for start in range(0, 60, 6)]
    assert all(Counter(turn) == {0: 1, 1: 3, 2: 2} for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1
    assert order(repeats, 4, 9, seed=0) == (rounds[0] + rounds[1] + rounds[2])[4:13]


def test_devices_share_one_order(tiny_base: Base, images: Path) -> None:
    views = images_of(tiny_base, images)
    wanted = order((1, 1, 1), 0, 8, seed=0)
    found: list[str] = []
    for step in range(2):
        for rank in range(2):
            found += batch_at(step, Shown(views), Draws(0, 2, 0.0, 1000, rank, 2)).captions
    assert found == [views.images[index].caption for index in wanted]


def test_masks_come_at_latent_size_and_turn_with_the_image(tiny_base: Base, images: Path) -> None:
    views = images_of(tiny_base, images)
    generator = torch.Generator().manual_seed(0)
    mask = views(0, generator).mask
    assert mask is not None and mask.shape == (1, 8, 8)
    assert torch.equal(mask[0].bool().nonzero().amin(dim=0), torch.tensor([2, 0]))
    mirrored = images_of(tiny_base, images, mirror=True)
    columns = set()
    for seed in range(8):
        turned = mirrored(0, torch.Generator().manual_seed(seed)).mask
        assert turned is not None
        columns.add(int(turned[0].bool().nonzero()[:, 1].min()))
    assert columns == {0, 4}


def test_an_image_without_a_mask_counts_whole(tiny_base: Base, images: Path) -> None:
    (images / "masks" / "1.png").unlink()
    views = images_of(tiny_base, images)
    batch = batch_at(0, Shown(views), Draws(0, 3, 0.0, 1000))
    without = batch.captions.index("a photo of <rex>")
    assert batch.has_mask.tolist() == [index != without for index in range(3)]
    assert (batch.masks[without] == 1).all()


def test_latents_are_encoded_once_unless_each_step_cuts_anew(
    tiny_base: Base, images: Path, monkeypatch: object
) -> None:
    calls: list[int] = []
    original = type(tiny_base).encode

    def counting(base: Base, pixels: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return original(base, pixels)

    monkeypatch.setattr(type(tiny_base), "encode", counting)  # type: ignore[attr-defined]
    kept = images_of(tiny_base, images)
    for step in range(6):
        batch_at(step, Shown(kept), DRAWS)
    assert len(calls) == 3
    cut = images_of(tiny_base, images, crop=True)
    for step in range(6):
        batch_at(step, Shown(cut), DRAWS)
    assert len(calls) == 3 + 12


def test_a_long_image_is_cut_in_its_middle_not_squeezed(tiny_base: Base, images: Path) -> None:
    pixels = np.zeros((64, 192, 3), dtype=np.uint8)
    pixels[:, 64:128] = 255
    for path in images.glob("*.png"):
        Image.fromarray(pixels).save(path)
        (images / "masks" / path.name).unlink()
    white = tiny_base.encode(torch.ones(1, 3, 64, 64))[0]
    found = images_of(tiny_base, images)(0, torch.Generator().manual_seed(0)).latents
    assert torch.allclose(found, white, atol=1e-2)
