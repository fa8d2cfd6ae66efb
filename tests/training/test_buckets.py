"""Pictures of all shapes, each trained in a size of its own."""

import logging
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit.backbones import Base
from toolkit.config.schema import TrainConfig
from toolkit.errors import InputError
from toolkit.training.buckets import Subject, bucket_of, bucket_sizes, enlarged, frame_of, lost
from toolkit.training.concept_folder import read_concept_folder
from toolkit.training.data import Draws, Shown, batch_at
from toolkit.training.framing import in_buckets
from toolkit.training.latent_store import LatentStore
from toolkit.training.order import order_by_size
from toolkit.training.run import train
from toolkit.training.views import ImageViews, Views

MakeConfig = Callable[..., TrainConfig]
BASES = [((512, 512), 64), ((1024, 1024), 64), ((128, 128), 64), ((768, 512), 64), ((512, 512), 8)]


@pytest.mark.parametrize(("base", "multiple"), BASES)
def test_areas_are_the_bases_and_sides_are_multiples(base: tuple[int, int], multiple: int) -> None:
    sizes = bucket_sizes(base, multiple)
    area, side = base[0] * base[1], (base[0] * base[1]) ** 0.5
    assert base in sizes and (base[1], base[0]) in sizes
    for width, height in sizes:
        assert width % multiple == height % multiple == 0
        assert side / (side + multiple) <= width * height / area <= (side + multiple) / side
        assert max(width, height) <= 4 * min(width, height)


@pytest.mark.parametrize(("base", "multiple"), BASES)
def test_an_image_of_a_buckets_size_is_not_touched(base: tuple[int, int], multiple: int) -> None:
    for size in bucket_sizes(base, multiple):
        assert bucket_of(size, base, multiple, 1.0) == size
        frame, whole = frame_of(size, size, Subject((0, size[0]), (0, size[1])))
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        assert whole and np.array_equal(np.asarray(frame.of(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize(("base", "multiple"), BASES)
def test_large_images_get_the_whole_area_and_none_is_enlarged_too_much(
    base: tuple[int, int], multiple: int
) -> None:
    draw = random.Random(0)
    sizes = bucket_sizes(base, multiple)
    for _ in range(300):
        image = (draw.randint(multiple, 4 * base[0]), draw.randint(multiple, 4 * base[1]))
        upscale = draw.choice([1.0, 1.5, 2.0])
        bucket = bucket_of(image, base, multiple, upscale)
        assert enlarged(image, bucket) <= upscale
        if any(enlarged(image, size) <= upscale for size in sizes):
            assert bucket in sizes
            assert image == bucket or lost(image, bucket) <= min(
                lost(image, size) for size in sizes if enlarged(image, size) <= upscale
            )
        else:
            assert bucket[0] % multiple == bucket[1] % multiple == 0


def test_the_cut_keeps_the_subject_wherever_it_can() -> None:
    draw = random.Random(0)
    kept = 0
    for _ in range(300):
        image = (draw.randint(100, 900), draw.randint(100, 900))
        left, top = draw.randint(0, image[0] - 60), draw.randint(0, image[1] - 60)
        subject = Subject((left, left + 60), (top, top + 60))
        bucket = bucket_of(image, (512, 512), 64, 6.0)
        frame, whole = frame_of(image, bucket, subject)
        mask = Image.new("L", image)
        mask.paste(255, (left, top, left + 60, top + 60))
        scale = enlarged(image, bucket)
        for place in ((frame.across[0], frame.down[0]), frame.place,
                      (frame.across[1], frame.down[1])):  # fmt: skip
            seen = np.asarray(type(frame)(frame.size, place).of(mask)) > 127
            share = seen.sum() / (60 * scale) ** 2
            if whole:
                assert share > 0.97, (image, subject, frame)
        kept += whole
    assert kept > 290


def test_images_that_cannot_be_whole_are_named(images: Path) -> None:
    Image.fromarray(np.zeros((100, 1000, 3), dtype=np.uint8)).save(images / "0.png")
    mask = np.zeros((100, 1000), dtype=np.uint8)
    mask[:, 100:900] = 255
    Image.fromarray(mask).save(images / "masks" / "0.png")
    Image.fromarray(np.zeros((50, 500, 3), dtype=np.uint8)).save(images / "1.png")
    (images / "masks" / "1.png").unlink()
    framing = in_buckets(read_concept_folder(images, "rex").images, (128, 128), 64, 2.0)
    assert "no bucket holds all of the subject in 1 image: 0.png" in framing.warnings[0]
    assert "1.png (500 x 50, 60% cut off)" in framing.warnings[1]
    assert framing.told == "buckets: 256 x 64: 2, 128 x 128: 1; 2 enlarged, by 2 at most"


def test_images_that_are_too_small_are_refused_by_name(images: Path) -> None:
    Image.new("RGB", (300, 20)).save(images / "0.png")
    (images / "masks" / "0.png").unlink()
    found = read_concept_folder(images, "rex").images
    with pytest.raises(InputError, match=r"0\.png \(300 x 20 pixels: too small"):
        in_buckets(found, (128, 128), 64, 2.0)


def test_a_round_shows_every_image_in_batches_of_one_size() -> None:
    repeats, sizes = (1, 1, 3, 1, 1, 2), [(64, 64), (64, 128), (64, 64), (64, 128), (64, 64),
                                         (192, 64)]  # fmt: skip
    in_round = 3 + 1 + 1
    for turn in range(4):
        batches = [
            order_by_size(repeats, sizes, turn * in_round + place, 2, seed=0)
            for place in range(in_round)
        ]
        assert all(len({sizes[index] for index in batch}) == 1 for batch in batches)
        assert Counter(sum(batches, [])) == dict(enumerate(repeats))
    first = [order_by_size(repeats, sizes, place, 2, seed=0) for place in range(in_round)]
    assert batches != first


def test_each_pictures_loss_counts_the_same_in_a_smaller_batch(
    tiny_base: Base, images: Path
) -> None:
    Image.new("RGB", (128, 64)).save(images / "0.png")
    (images / "masks" / "0.png").unlink()
    found = read_concept_folder(images, "rex").images
    frames = in_buckets(found, (64, 64), 64, 1.0).frames
    shown = Shown(ImageViews(tiny_base, found, Views((64, 64), frames=frames)))
    counted: Counter[str] = Counter()
    for step in range(2):
        batch = batch_at(step, shown, Draws(0, 2, 0.0, 1000))
        number = len(batch.captions)
        assert batch.latents.shape[-1] == (16 if number == 1 else 8)
        for caption, weight in zip(batch.captions, batch.weights.tolist(), strict=True):
            counted[caption] += weight / number  # type: ignore[assignment]
    assert set(counted.values()) == {0.5}, "of the mean over a batch of two"


def test_training_in_buckets_says_which_and_draws_them(
    make_config: MakeConfig, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (256, 130)).save(images / "0.png")
    (images / "masks" / "0.png").unlink()
    with caplog.at_level(logging.INFO):
        train(make_config(buckets=True, cache="disk"))
    assert "buckets: 64 x 64: 2, 128 x 64: 1" in caplog.text
    with Image.open(tmp_path / "outputs/runs/train/tiny/rex/crops.png") as crops:
        assert np.asarray(crops).std() > 10


def test_latents_on_disk_follow_the_images_content(
    tiny_base: Base, make_config: MakeConfig, images: Path, tmp_path: Path
) -> None:
    store = LatentStore(tmp_path / "cache", "encoder")

    def latents() -> torch.Tensor:
        found = read_concept_folder(images, "rex").images
        views = ImageViews(tiny_base, found, Views((64, 64)), store)
        return views(0, torch.Generator().manual_seed(0)).latents

    before = latents()
    (kept,) = (tmp_path / "cache").iterdir()
    written = kept.stat().st_mtime_ns
    assert torch.equal(latents(), before) and kept.stat().st_mtime_ns == written
    Image.new("RGB", (64, 64), "blue").save(images / "0.png")
    assert not torch.equal(latents(), before)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    kept.write_bytes(b"cut short")
    Image.open(images / "1.png").save(images / "0.png")
    assert latents().isfinite().all()
