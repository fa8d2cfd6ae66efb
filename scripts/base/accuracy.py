"""How often the base draws what it was asked for, by its own scorer, beside the judge's ceiling."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import (
    StableDiffusionPipeline,
)
from PIL import Image

from . import captions, checkpoint, scorer
from .autoencoder import as_pixels
from .scenes import Painter, SceneKind, paste, place_boxes
from .text_to_image import token_ids

NameAll = Callable[[Sequence[Image.Image]], list[str]]

ONE = SceneKind(128, 128, 1, 1, 64, 112, 0.7)
TWO = SceneKind(256, 128, 2, 2, 84, 110, 0.7)
THREE = SceneKind(384, 128, 3, 3, 84, 110, 0.7)
FOUR = SceneKind(256, 256, 4, 4, 84, 110, 0.7)


@dataclass(frozen=True)
class Accuracy:
    """Shares of pictures, and the same shares of real pastes: the judge's ceiling.

    one: the object named is the likeliest of all names. one_second: by the second judge, where it
    was asked. two: both halves of a wide picture show the two objects named, in any order. sides:
    of those, each on the side that was asked for. three, four: all thirds of a wider picture, all
    quarters of a square one, show the objects named, in any order; *_ordered: in the order that was
    asked for. seconds: for one picture of 128 x 128, 25 steps.
    """

    one: float
    one_ceiling: float
    one_second: float | None
    one_second_ceiling: float | None
    two: float
    two_ceiling: float
    sides: float
    three: float
    three_ceiling: float
    three_ordered: float
    four: float
    four_ceiling: float
    four_ordered: float
    seconds: float
    by_name: dict[str, float]


@torch.no_grad()
def measure(
    painter: Painter,
    pipeline: StableDiffusionPipeline,
    work: Path,
    guidance: float,
    second: NameAll | None = None,
    seeds: int = 4,
    steps: int = 25,
) -> Accuracy:
    """Draw every name `seeds` times, half as many pairs, triples and fours, and name what is seen.

    Pictures are drawn on a GPU where there is one; noise comes from the CPU's generator.
    """
    pipeline.to(checkpoint.best_device())
    piece = 8 if pipeline.device.type == "cpu" else 48
    judge = Namer(painter, pipeline, work)
    rng = np.random.default_rng(11)
    names = [name for name in painter.names for _ in range(seeds)]
    firsts = [name for name in painter.names for _ in range(max(1, seeds // 2))]
    wanted = [
        (name, str(rng.choice([other for other in painter.names if other != name])))
        for name in firsts
    ]
    pipeline.set_progress_bar_config(disable=True)

    def draw(prompts: Sequence[str], width: int, height: int = 128) -> list[Image.Image]:
        drawn: list[Image.Image] = []
        for start in range(0, len(prompts), piece):
            some = list(prompts[start : start + piece])
            generators = [torch.Generator().manual_seed(start + i) for i in range(len(some))]
            drawn += pipeline(
                some,
                width=width,
                height=height,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=generators,
            ).images
        return drawn

    drawn = draw([_one_prompt(painter, rng, name) for name in names], 128)
    found = judge.name_cells(draw([_two_prompt(painter, rng, *pair) for pair in wanted], 256), TWO)
    both = [set(seen) == set(pair) for seen, pair in zip(found, wanted, strict=True)]
    placed = [seen == pair for seen, pair, right in zip(found, wanted, both, strict=True) if right]
    pasted = [_pasted(painter, rng, ONE, [name]) for name in names]
    real_pairs = judge.name_cells([_pasted(painter, rng, TWO, list(pair)) for pair in wanted], TWO)

    def several(kind: SceneKind) -> tuple[float, float, float]:
        """All right in any order; the same of real pastes; all right in the order asked for."""
        rng = np.random.default_rng([12, kind.most])
        groups = [
            tuple(str(name) for name in rng.choice(painter.names, kind.most, replace=False))
            for _ in range(len(firsts))
        ]
        prompts = [_many_prompt(painter, rng, group) for group in groups]
        pasted = judge.name_cells([_pasted(painter, rng, kind, group) for group in groups], kind)
        seen = judge.name_cells(draw(prompts, kind.width, kind.height), kind)
        return (
            _share([set(a) == set(b) for a, b in zip(seen, groups, strict=True)]),
            _share([set(a) == set(b) for a, b in zip(pasted, groups, strict=True)]),
            _share([a == b for a, b in zip(seen, groups, strict=True)]),
        )

    three, four = several(THREE), several(FOUR)

    def right(name_all: NameAll, pictures: Sequence[Image.Image]) -> float:
        return _share([a == b for a, b in zip(name_all(pictures), names, strict=True)])

    hits = np.array([seen == name for seen, name in zip(judge.name_all(drawn), names, strict=True)])
    started = time.monotonic()
    pipeline("a dog", width=128, height=128, num_inference_steps=25, guidance_scale=guidance)
    seconds = time.monotonic() - started
    return Accuracy(
        one=float(hits.mean()),
        one_ceiling=right(judge.name_all, pasted),
        one_second=right(second, drawn) if second else None,
        one_second_ceiling=right(second, pasted) if second else None,
        two=_share(both),
        two_ceiling=_share([a == b for a, b in zip(real_pairs, wanted, strict=True)]),
        sides=_share(placed),
        three=three[0],
        three_ceiling=three[1],
        three_ordered=three[2],
        four=four[0],
        four_ceiling=four[1],
        four_ordered=four[2],
        seconds=round(seconds, 2),
        by_name={name: float(hits[[n == name for n in names]].mean()) for name in painter.names},
    )


def as_json(accuracy: Accuracy) -> dict[str, object]:
    """Its numbers, rounded."""
    return {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in asdict(accuracy).items()
    }


class Namer:
    """Says which of the world's names a picture shows."""

    def __init__(self, painter: Painter, pipeline: StableDiffusionPipeline, work: Path) -> None:
        """Read work/scorer and embed every name."""
        self.names = painter.names
        self.judge = scorer.load(work / "scorer").eval()
        texts = [f"a photo depicts {captions.article(name)}" for name in self.names]
        ids = token_ids(pipeline.tokenizer, texts).to(pipeline.device)
        with torch.no_grad():
            self.pooled = pipeline.text_encoder(ids).pooler_output.cpu()

    @torch.no_grad()
    def name_all(self, pictures: Sequence[Image.Image]) -> list[str]:
        """The likeliest name of each."""
        side = (scorer.SIDE, scorer.SIDE)
        sized = [picture.resize(side, Image.Resampling.BICUBIC) for picture in pictures]
        return [self.names[i] for i in self.judge.logits(as_pixels(sized), self.pooled).argmax(1)]

    def name_cells(self, pictures: Sequence[Image.Image], kind: SceneKind) -> list[tuple[str, ...]]:
        """The likeliest name in each part of each picture: halves, thirds, or quarters by rows."""
        rows = 2 if kind.most > 3 else 1
        columns = kind.most // rows
        width, height = kind.width // columns, kind.height // rows
        parts = [
            picture.crop((x * width, y * height, (x + 1) * width, (y + 1) * height))
            for picture in pictures
            for y in range(rows)
            for x in range(columns)
        ]
        named = self.name_all(parts)
        return [tuple(named[i : i + kind.most]) for i in range(0, len(named), kind.most)]


def _where(painter: Painter, rng: np.random.Generator) -> str:
    return painter.picture(rng, SceneKind(32, 32, 0, 0, scenery=0.7))[1]


def _styled(painter: Painter, rng: np.random.Generator, name: str) -> str:
    return f"a {rng.choice(painter.world.styles_of(name))} {name}"


def _one_prompt(painter: Painter, rng: np.random.Generator, name: str) -> str:
    return f"{_styled(painter, rng, name)} {_where(painter, rng)}".strip()


def _two_prompt(painter: Painter, rng: np.random.Generator, left: str, right: str) -> str:
    first, second = _styled(painter, rng, left), _styled(painter, rng, right)
    return f"{first} on the left and {second} on the right {_where(painter, rng)}".strip()


def _many_prompt(painter: Painter, rng: np.random.Generator, names: Sequence[str]) -> str:
    things = [_styled(painter, rng, name) for name in names]
    return f"{', '.join(things[:-1])} and {things[-1]} {_where(painter, rng)}".strip()


def _pasted(
    painter: Painter, rng: np.random.Generator, kind: SceneKind, names: Sequence[str]
) -> Image.Image:
    canvas, _ = painter.picture(rng, SceneKind(kind.width, kind.height, 0, 0, scenery=0.7))
    for name, box in zip(names, place_boxes(rng, kind, len(names)), strict=True):
        style = str(rng.choice(painter.world.styles_of(name)))
        paste(canvas, painter.art[name, style], box, bool(rng.random() < 0.5))
    return canvas


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
