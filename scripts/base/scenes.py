"""Training pictures: art pasted on drawn backgrounds, each with its caption."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from . import captions, scenery
from .art import World, read_art

Box = tuple[int, int, int, int]

ALIKE = 0.2  # share of further objects that are like the one before, where leaning
MIN_ROW = 100  # pixels: a row of objects is at least so high


@dataclass(frozen=True)
class SceneKind:
    """What sort of pictures to draw: canvas in pixels, how many objects of which size."""

    width: int
    height: int
    fewest: int = 1
    most: int = 1
    smallest: int = 44
    largest: int = 62
    scenery: float = 0.5  # share of pictures with scenery; the others have a plain colour


class Painter:
    """Draws random captioned pictures of one world."""

    def __init__(self, world: World, pack: Path, leaning: bool = False) -> None:
        """Read the art of every style from the pack.

        leaning: draw what is hard to learn more often, and things of like shape side by side, as
        the world's config says; without it every name is as likely as any other.
        """
        by_style = {style: read_art(pack, style) for style in world.styles}
        self.world = world
        self.art = {
            (name, style): trim(by_style[style][world.names[name]])
            for name in world.names
            for style in world.styles_of(name)
        }
        self.place_art = {
            (name, style): full_bleed(by_style[style][world.places[name]])
            for name in world.places
            for style in world.styles_of(name)
        }
        self.names = list(world.names)
        self.leaning = leaning

    def picture(self, rng: np.random.Generator, kind: SceneKind) -> tuple[Image.Image, str]:
        """One picture of a kind, and its caption."""
        canvas, where = self._background(rng, kind)
        count = int(rng.integers(kind.fewest, kind.most + 1))
        boxes = place_boxes(rng, kind, count)
        subjects, centres, name = [], [], ""
        for left, top, right, bottom in boxes:
            name = self._next_name(rng, name)
            style = str(rng.choice(self.world.styles_of(name)))
            paste(
                canvas, self.art[name, style], (left, top, right, bottom), bool(rng.random() < 0.5)
            )
            subjects.append(captions.object_phrase(rng, name, style))
            centres.append(((left + right) / 2 / kind.width, (top + bottom) / 2 / kind.height))
        return canvas, self._caption(rng, subjects, centres, where)

    def _next_name(self, rng: np.random.Generator, previous: str) -> str:
        if not self.leaning:
            return str(rng.choice(self.names))
        alike = self.world.alike.get(previous, ())
        if alike and rng.random() < ALIKE:
            return str(rng.choice(alike))
        return self._weighted(rng, self.names)

    def _weighted(self, rng: np.random.Generator, choices: list[str]) -> str:
        weights = np.array([self.world.weights.get(choice, 1.0) for choice in choices])
        return str(rng.choice(choices, p=weights / weights.sum()))

    def _caption(
        self,
        rng: np.random.Generator,
        subjects: list[str],
        centres: list[tuple[float, float]],
        where: str,
    ) -> str:
        if not subjects:
            return where
        if len(subjects) == 1:
            return captions.one_caption(rng, subjects[0], captions.place_phrase(*centres[0]), where)
        if len(subjects) > 2:
            return captions.many_caption(rng, subjects, where)
        left, right = sorted((0, 1), key=lambda i: centres[i][0])
        apart = centres[right][0] - centres[left][0] > 0.2
        return captions.two_caption(rng, subjects[left], subjects[right], apart, where)

    def _background(self, rng: np.random.Generator, kind: SceneKind) -> tuple[Image.Image, str]:
        if rng.random() >= kind.scenery:
            colour = str(rng.choice(list(scenery.COLOURS)))
            where = f"on {captions.article(colour)} background" if rng.random() < 0.9 else ""
            return scenery.plain(colour, rng, kind.width, kind.height), where
        choices = [*scenery.SCENES, *self.world.places]
        choice = self._weighted(rng, choices) if self.leaning else str(rng.choice(choices))
        if choice in scenery.SCENES:
            painter, phrases = scenery.SCENES[choice]
            return painter(rng, kind.width, kind.height), str(rng.choice(phrases))
        style = str(rng.choice(self.world.styles_of(choice)))
        phrase = f"in a {style} {choice}" if rng.random() < 0.8 else f"in the {choice}"
        return fill_canvas(rng, self.place_art[choice, style], kind.width, kind.height), phrase


def trim(picture: Image.Image) -> Image.Image:
    """The picture cut to what is visible, centred on a square."""
    box = picture.getbbox() or (0, 0, *picture.size)
    visible = picture.crop(box)
    side = max(visible.size)
    square = Image.new("RGBA", (side, side))
    square.paste(visible, ((side - visible.width) // 2, (side - visible.height) // 2))
    return square


def full_bleed(picture: Image.Image) -> Image.Image:
    """The inside of art in a rounded frame, without its corners, RGB."""
    box = picture.getbbox() or (0, 0, *picture.size)
    inset_x, inset_y = 0.05 * (box[2] - box[0]), 0.05 * (box[3] - box[1])
    left, right = round(box[0] + inset_x), round(box[2] - inset_x)
    top, bottom = round(box[1] + inset_y), round(box[3] - inset_y)
    return picture.convert("RGB").crop((left, top, right, bottom))


def fill_canvas(
    rng: np.random.Generator, place: Image.Image, width: int, height: int
) -> Image.Image:
    """A random, sometimes mirrored, window of a place that covers the canvas."""
    if rng.random() < 0.5:
        place = place.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = round(max(width, height) * rng.uniform(1.0, 1.15))
    left, top = int(rng.integers(0, side - width + 1)), int(rng.integers(0, side - height + 1))
    return place.resize((side, side), Image.Resampling.BICUBIC).crop(
        (left, top, left + width, top + height)
    )


def paste(canvas: Image.Image, art: Image.Image, box: Box, mirrored: bool) -> None:
    """Paste RGBA art into a square pixel box of the canvas."""
    size = (box[2] - box[0], box[3] - box[1])
    resample = Image.Resampling.LANCZOS if size[0] < art.width else Image.Resampling.BICUBIC
    sized = art.resize(size, resample)
    if mirrored:
        sized = sized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas.paste(sized, box[:2], sized)


def portraits(
    painter: Painter, art: Image.Image, count: int, rng: np.random.Generator
) -> list[Image.Image]:
    """`count` pictures of 128 x 128 that show the art alone, in varied sizes and places."""
    side, drawn = 128, []
    for _ in range(count):
        canvas, _ = painter.picture(rng, SceneKind(side, side, 0, 0, scenery=0.7))
        size = int(rng.integers(72, 113))
        left, top = (int(rng.integers(0, side - size + 1)) for _ in range(2))
        paste(canvas, art, (left, top, left + size, top + size), mirrored=False)
        drawn.append(canvas)
    return drawn


def place_boxes(rng: np.random.Generator, kind: SceneKind, count: int) -> list[Box]:
    """`count` square boxes inside the canvas, along its longer edge; in two rows if it is large."""
    if count < 3 or min(kind.width, kind.height) < 2 * MIN_ROW:
        return _row_of_boxes(rng, kind, count)
    half = replace(kind, height=kind.height // 2)
    upper = _row_of_boxes(rng, half, count // 2)
    lower = _row_of_boxes(rng, half, count - count // 2)
    return upper + [(x0, y0 + half.height, x1, y1 + half.height) for x0, y0, x1, y1 in lower]


def _row_of_boxes(rng: np.random.Generator, kind: SceneKind, count: int) -> list[Box]:
    wide = kind.width >= kind.height
    length, across = (kind.width, kind.height) if wide else (kind.height, kind.width)
    share = length / max(count, 1)
    boxes = []
    for index in range(count):
        largest = int(min(kind.largest, across - 2, share))
        size = int(rng.integers(min(kind.smallest, largest), largest + 1))
        along = int(
            rng.integers(
                round(index * share),
                max(round((index + 1) * share) - size, round(index * share)) + 1,
            )
        )
        along = min(along, length - size)
        offset = int(rng.integers(0, across - size + 1))
        left, top = (along, offset) if wide else (offset, along)
        boxes.append((left, top, left + size, top + size))
    return boxes
