"""Drawn backgrounds: simple, smooth, a little different every time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Painter = Callable[[np.random.Generator, int, int], Image.Image]

COLOURS: dict[str, Colour] = {
    "white": (246, 246, 246),
    "gray": (150, 152, 156),
    "black": (28, 28, 32),
    "red": (208, 52, 48),
    "orange": (240, 140, 50),
    "yellow": (248, 214, 82),
    "green": (88, 172, 84),
    "blue": (72, 130, 214),
    "purple": (134, 88, 180),
    "pink": (244, 164, 194),
    "brown": (134, 92, 60),
    "teal": (60, 168, 164),
}


def plain(colour: str, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """One flat colour, slightly jittered."""
    return Image.new("RGB", (width, height), _jitter(rng, COLOURS[colour], 6))


def grass(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A meadow under a blue sky."""
    return _land(
        rng, width, height, ((120, 190, 245), (205, 232, 250)), ((112, 190, 84), (70, 150, 58))
    )


def beach(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Sky, a band of sea, sand."""
    picture = _land(
        rng, width, height, ((110, 195, 245), (200, 235, 250)), ((240, 218, 165), (226, 192, 128))
    )
    draw = ImageDraw.Draw(picture)
    shore = _horizon(rng, height)
    draw.rectangle(
        (0, int(shore - 0.16 * height), width, shore), fill=_jitter(rng, (38, 138, 190), 8)
    )
    return picture


def desert(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Dunes under a pale hot sky."""
    picture = _land(
        rng, width, height, ((250, 206, 130), (253, 232, 190)), ((230, 160, 84), (204, 124, 60))
    )
    _hill(rng, picture, _jitter(rng, (222, 148, 76), 8))
    return picture


def night(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A dark starry sky with a moon over a dark ground."""
    picture = _land(rng, width, height, ((16, 20, 58), (46, 54, 112)), ((30, 42, 62), (20, 28, 44)))
    draw = ImageDraw.Draw(picture)
    for _ in range(width * height // 1600):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, max(2, int(height * 0.5))))
        draw.rectangle((x, y, x + 1, y + 1), fill=(236, 236, 210))
    radius = int(height * 0.07)
    x, y = int(rng.integers(radius, width - radius)), int(height * 0.13)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(250, 240, 190))
    return picture


def snow(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """White ground, pale sky, a snowy hill."""
    picture = _land(
        rng, width, height, ((160, 190, 218), (214, 228, 240)), ((244, 248, 252), (220, 230, 242))
    )
    _hill(rng, picture, (232, 240, 248))
    return picture


def underwater(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Blue water, darker below, over a sandy bottom."""
    picture = _gradient(
        width, height, _jitter(rng, (62, 180, 214), 10), _jitter(rng, (14, 70, 138), 10)
    )
    draw = ImageDraw.Draw(picture)
    floor = int(height * rng.uniform(0.86, 0.92))
    draw.rectangle((0, floor, width, height), fill=_jitter(rng, (150, 146, 116), 8))
    for _ in range(3 + width // 64):
        radius = int(rng.integers(2, 5))
        x, y = int(rng.integers(0, width)), int(rng.integers(0, floor))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=(170, 224, 240))
    return picture


def sunset(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A low sun in an orange and purple sky over dark water."""
    shore = _horizon(rng, height)
    sky = _gradient(width, shore, _jitter(rng, (92, 58, 138), 10), _jitter(rng, (252, 150, 78), 8))
    picture = _gradient(width, height, _jitter(rng, (150, 74, 96), 8), (64, 36, 80))
    radius = int(height * 0.14)
    x = int(rng.integers(radius, width - radius))
    ImageDraw.Draw(sky).ellipse(
        (x - radius, shore - radius, x + radius, shore + radius), fill=(255, 224, 120)
    )
    picture.paste(sky, (0, 0))
    return picture


def road(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A grey road with a dashed line, between green and sky."""
    picture = _land(
        rng, width, height, ((140, 196, 240), (214, 234, 248)), ((110, 176, 90), (84, 150, 70))
    )
    draw = ImageDraw.Draw(picture)
    top = int(height * rng.uniform(0.66, 0.74))
    draw.rectangle((0, top, width, height), fill=_jitter(rng, (96, 98, 104), 6))
    line = (top + height) // 2
    for x in range(int(rng.integers(-24, 0)), width, 32):
        draw.rectangle((x, line - 1, x + 15, line + 1), fill=(240, 236, 214))
    return picture


def room(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A warm wall and a wooden floor."""
    return _land(
        rng, width, height, ((238, 214, 178), (228, 198, 160)), ((160, 104, 66), (126, 80, 50))
    )


def forest(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Round dark-green treetops behind a green ground."""
    picture = _gradient(width, height, _jitter(rng, (176, 218, 206), 6), (140, 196, 170))
    draw = ImageDraw.Draw(picture)
    ground = int(height * rng.uniform(0.62, 0.72))
    x = int(rng.integers(-20, 0))
    while x < width:
        radius = int(height * rng.uniform(0.16, 0.24))
        y = int(ground - height * rng.uniform(0.06, 0.16))
        draw.ellipse(
            (x, y - radius, x + 2 * radius, y + radius), fill=_jitter(rng, (34, 104, 62), 10)
        )
        x += int(radius * 1.4)
    soil = _gradient(width, height - ground, _jitter(rng, (66, 124, 58), 8), (46, 92, 46))
    picture.paste(soil, (0, ground))
    return picture


SCENES: dict[str, tuple[Painter, tuple[str, ...]]] = {
    "grass": (grass, ("on the grass", "in a meadow", "on green grass")),
    "beach": (beach, ("on the beach", "at the beach")),
    "desert": (desert, ("in the desert", "in a desert")),
    "night": (night, ("at night", "under the night sky")),
    "snow": (snow, ("in the snow", "on the snow")),
    "underwater": (underwater, ("under water", "under the sea")),
    "sunset": (sunset, ("at sunset", "in front of a sunset")),
    "road": (road, ("on the road", "on a road")),
    "room": (room, ("in a room", "in the room")),
    "forest": (forest, ("in the forest", "in a forest")),
}


def _horizon(rng: np.random.Generator, height: int) -> int:
    return int(height * rng.uniform(0.52, 0.66))


def _jitter(rng: np.random.Generator, colour: Colour, amount: int) -> Colour:
    red, green, blue = (
        int(c) for c in np.clip(np.array(colour) + rng.integers(-amount, amount + 1, 3), 0, 255)
    )
    return red, green, blue


def _gradient(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    rows = np.linspace(np.array(top, np.float32), np.array(bottom, np.float32), height)
    return Image.fromarray(np.repeat(rows[:, None].astype(np.uint8), width, axis=1))


def _land(
    rng: np.random.Generator,
    width: int,
    height: int,
    sky: tuple[Colour, Colour],
    ground: tuple[Colour, Colour],
) -> Image.Image:
    horizon = _horizon(rng, height)
    picture = _gradient(width, height, _jitter(rng, sky[0], 8), _jitter(rng, sky[1], 8))
    soil = _gradient(
        width, height - horizon, _jitter(rng, ground[0], 8), _jitter(rng, ground[1], 8)
    )
    picture.paste(soil, (0, horizon))
    return picture


def _hill(rng: np.random.Generator, picture: Image.Image, colour: Colour) -> None:
    """A low hill, wider than the picture, somewhere behind the subject."""
    width, height = picture.size
    x, top = int(rng.integers(0, width)), int(height * rng.uniform(0.46, 0.54))
    ImageDraw.Draw(picture).ellipse((x - width, top, x + width, top + height), fill=colour)
