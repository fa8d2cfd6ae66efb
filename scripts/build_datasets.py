"""Draw the concept folders: `python scripts/build_datasets.py --pack FOLDER/art.zip`.

Each concept is one identity: a piece of art that the embedded base never saw, at several sizes and
places on the base's drawn backgrounds. The same pack gives the same files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from base import captions, scenery
from base.art import load_world, read_art
from base.scenes import fill_canvas, full_bleed, paste, trim
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SIDE = 128  # pixels
LICENCE = "Fluent Emoji (3D), Copyright Microsoft Corporation, MIT licence; see NOTICE.\n"

# Per image: the background (scene or plain colour), the subject's side and its centre in pixels.
VIEWS: list[tuple[str, int, tuple[int, int]]] = [
    ("grass", 100, (64, 68)),
    ("white", 108, (64, 64)),
    ("beach", 88, (48, 76)),
    ("blue", 96, (74, 64)),
    ("snow", 76, (82, 78)),
    ("road", 92, (60, 64)),
    ("yellow", 80, (50, 54)),
    ("forest", 104, (66, 70)),
    ("room", 96, (64, 74)),
    ("desert", 84, (70, 72)),
]


def draw_subject(art: Image.Image, name: str, folder: Path) -> None:
    """Images, captions and masks of one foreground concept."""
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    for index, (background, size, (x, y)) in enumerate(VIEWS):
        rng = np.random.default_rng(index)
        canvas, where = _background(rng, background)
        box = (x - size // 2, y - size // 2, x - size // 2 + size, y - size // 2 + size)
        shape = Image.new("RGBA", (SIDE, SIDE))
        paste(canvas, art, box, mirrored=index % 3 == 2)
        paste(shape, art, box, mirrored=index % 3 == 2)
        mask = shape.getchannel("A").point(lambda alpha: 255 if alpha > 127 else 0)
        place = captions.place_phrase(x / SIDE, y / SIDE)
        said = "" if place == "in the middle" else f" {place}"
        canvas.save(folder / f"{index:02d}.png")
        mask.save(folder / "masks" / f"{index:02d}.png")
        (folder / f"{index:02d}.txt").write_text(f"<{name}>{said} {where}\n")
    (folder / "LICENSE").write_text(LICENCE)


def draw_place(art: Image.Image, name: str, folder: Path) -> None:
    """Images and captions of one background concept: windows of its art, some mirrored."""
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    for index in range(8):
        rng = np.random.default_rng(index)
        fill_canvas(rng, art, SIDE, SIDE).save(folder / f"{index:02d}.png")
        Image.new("L", (SIDE, SIDE), 255).save(folder / "masks" / f"{index:02d}.png")
        (folder / f"{index:02d}.txt").write_text(f"in a <{name}>\n")
    (folder / "LICENSE").write_text(LICENCE)


def _background(rng: np.random.Generator, name: str) -> tuple[Image.Image, str]:
    if name in scenery.COLOURS:
        return scenery.plain(name, rng, SIDE, SIDE), f"on {captions.article(name)} background"
    painter, phrases = scenery.SCENES[name]
    return painter(rng, SIDE, SIDE), phrases[0]


def main(argv: Sequence[str] | None = None) -> None:
    """Draw every concept of the world's config, and its config/concept file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--pack", type=Path, required=True, help="art.zip of scripts/build_base.py pack"
    )
    parser.add_argument(
        "--to", type=Path, default=ROOT, help="folder that gets datasets/ and configs/"
    )
    arguments = parser.parse_args(argv)
    world = load_world()
    held_out = read_art(arguments.pack, "held_out")
    configs = arguments.to / "configs" / "concept"
    configs.mkdir(parents=True, exist_ok=True)
    for name, (class_word, emoji) in world.concepts.items():
        folder = arguments.to / "datasets" / name
        if class_word in world.places:
            draw_place(full_bleed(held_out[emoji]), name, folder)
        else:
            draw_subject(trim(held_out[emoji]), name, folder)
        (configs / f"{name}.yaml").write_text(
            f"class_word: {class_word}\nimages: datasets/{name}\n"
        )


if __name__ == "__main__":
    main()
