"""Are trained concepts themselves? `python scripts/judge_concepts.py --work W SAMPLE_FOLDER ...`.

Each folder, outputs/sample/MODEL/NAME of `toolkit sample`, holds pictures of one concept alone. Two
judges say which art such a picture is most like: the concept's own, which the base never saw, or
the same name in the styles that the base knows. Art is pasted and passed through the base's
autoencoder first, so that both sides are as soft. W is the work folder of `build_base.py pack`.
Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from base.art import World, load_world, read_art
from base.autoencoder import as_pixels
from base.scenes import Painter, portraits, trim
from PIL import Image
from torch import Tensor

from toolkit.backbones import Base, load_base
from toolkit.evaluation.judges import Judge, load_judge
from toolkit.evaluation.scores import image_similarity

MINI = Path(__file__).resolve().parent.parent / "toolkit" / "assets" / "mini"
PASTES = 16  # of each piece of art


def pastes(art: Image.Image, painter: Painter, base: Base) -> list[Image.Image]:
    """The art in varied sizes and places, as the base would draw it at best."""
    drawn = portraits(painter, art, PASTES, np.random.default_rng(3))
    with torch.no_grad():
        pixels = base.decode(base.encode(as_pixels(drawn) / 2 + 0.5))
    return [Image.fromarray(p) for p in (pixels.permute(0, 2, 3, 1) * 255).byte().numpy()]


def candidates(world: World, pack: Path, concept: str) -> dict[str, Image.Image]:
    """The concept's own art, and its class word's in each style that the base knows."""
    class_word, emoji = world.concepts[concept]
    drawn = {**world.names, **world.places}
    own = {"own": trim(read_art(pack, "held_out")[emoji])}
    return own | {
        style: trim(read_art(pack, style)[drawn[class_word]])
        for style in world.styles_of(class_word)
    }


def share_told(judge: Judge, pictures: Sequence[Image.Image], art: dict[str, Tensor]) -> float:
    """The share of pictures that are most like the concept's own art."""
    seen = judge.images(pictures)
    likeness = {name: image_similarity(seen, embedded) for name, embedded in art.items()}
    best = torch.stack(list(likeness.values())).argmax(dim=0)
    return float((best == list(likeness).index("own")).float().mean())


def main(argv: Sequence[str] | None = None) -> None:
    """Judge every folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=MINI)
    parser.add_argument("--judges", default="mini,imagenet")
    arguments = parser.parse_args(argv)
    world, pack = load_world(), arguments.work / "art.zip"
    painter = Painter(world, pack)
    base = load_base(arguments.base, "mini", guidance_downscale=2)
    found: dict[str, dict[str, float]] = {}
    for name in arguments.judges.split(","):
        judge = load_judge(name, str(arguments.base))
        found[name] = {}
        for folder in arguments.folders:
            pictures = [Image.open(path).convert("RGB") for path in sorted(folder.rglob("*.png"))]
            art = {
                style: judge.images(pastes(drawn, painter, base))
                for style, drawn in candidates(world, pack, folder.name).items()
            }
            found[name][folder.name] = round(share_told(judge, pictures, art), 3)
        found[name]["mean"] = round(sum(found[name].values()) / len(arguments.folders), 3)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
