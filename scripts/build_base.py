"""Make the embedded base model from open art: `python scripts/build_base.py STEP --work FOLDER`.

Steps, in order: `pack`, `encoder`, `train` (stages single, scene, wide), `bind`, `train` (stages
pairs, several), `decoder`, `scorer`, `publish`; `sheet` draws prompts to look at, `accuracy` and
`fidelity` count. Training is boxed in minutes and can be stopped and run again: it goes on from its
last checkpoint. On another machine `restore` makes a work folder of the published base, and
`config.yaml` may name more things than that base knew.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

import torch
from base import accuracy, art, autoencoder, binding, captions, pretraining, publish, scorer, stages
from base.recipes import RECIPES, Recipe
from base.scenes import Painter

PUBLISHED = Path(__file__).resolve().parent.parent / "toolkit" / "assets" / "mini"
SHEET_PLACES = [
    *(
        "on the grass",
        "on a blue background",
        "in the snow",
        "in the forest",
        "on a yellow background",
    ),
    *("at night", "on the beach", "on a pink background", "in the desert", "on a red background"),
    *("at sunset", "on a white background", "on the road"),
]


def pack(arguments: argparse.Namespace) -> None:
    """Copy the needed art into FOLDER/art.zip."""
    target = arguments.work / "art.zip"
    packages = (arguments.fluent, arguments.google, arguments.twitter, arguments.emoji)
    count = art.pack_art(art.load_world(), *packages, target)
    logging.info("%d pictures in %s, %.1f MB", count, target, target.stat().st_size / 1e6)


def encoder(arguments: argparse.Namespace) -> None:
    """Train the autoencoder; leaves FOLDER/vae."""
    autoencoder.train_encoder(
        _painter(arguments), arguments.work / "art.zip", arguments.work, arguments.minutes
    )


def decoder(arguments: argparse.Namespace) -> None:
    """Train the decoder of FOLDER/vae further; its encoder stays, so the U-Net stays valid."""
    autoencoder.train_decoder(
        _painter(arguments), arguments.work / "art.zip", arguments.work, arguments.minutes
    )


def finish(arguments: argparse.Namespace) -> None:
    """Make the edges of the decoder in FOLDER/vae crisp; its encoder stays."""
    from base import finishing  # needs the toolkit, which a bare machine lacks

    finishing.train(
        _painter(arguments),
        arguments.work / "art.zip",
        arguments.work,
        arguments.minutes,
        arguments.batch,
    )


def train(arguments: argparse.Namespace) -> None:
    """Train text tower and U-Net on one stage of the curriculum."""
    pretraining.train(
        _painter(arguments),
        arguments.work,
        arguments.stage,
        arguments.minutes,
        _recipe(arguments),
        arguments.processes,
        arguments.validated,
    )


def recipes(arguments: argparse.Namespace) -> None:
    """Train by several recipes for the same minutes and compare their validation losses."""
    pretraining.compare(
        _painter(arguments),
        arguments.work,
        arguments.stage,
        arguments.minutes,
        RECIPES,
        arguments.processes,
        arguments.validated,
    )


def bind(arguments: argparse.Namespace) -> None:
    """Teach the text tower which name a side word speaks of; `train` the U-Net afterwards."""
    binding.bind(_painter(arguments), arguments.work, arguments.steps)


def scoring(arguments: argparse.Namespace) -> None:
    """Train the scorer beside the text tower; leaves FOLDER/scorer."""
    scorer.train(_painter(arguments), arguments.work, arguments.minutes)


def restore(arguments: argparse.Namespace) -> None:
    """Make the work folder from the published base, to train it further."""
    publish.restore(art.load_world(), arguments.work, PUBLISHED)


def publishing(arguments: argparse.Namespace) -> None:
    """Write the base's folder from the last checkpoints."""
    publish.publish(_painter(arguments), arguments.work, arguments.to)


def sheet(arguments: argparse.Namespace) -> None:
    """Draw fixed prompts with the last checkpoint into FOLDER/samples*.png."""
    painter = _painter(arguments)
    pipeline, steps, samples = publish.assemble(painter, arguments.work)
    world = painter.world
    for name, prompts, size, columns in (
        ("samples", sheet_prompts(world), (128, 128), 8),
        ("samples_wide", pair_prompts(world), (256, 128), 4),
        ("samples_three", group_prompts(world, 3), (384, 128), 3),
        ("samples_four", group_prompts(world, 4), (256, 256), 4),
    ):
        drawn = publish.sample_sheet(pipeline, prompts, size, columns)
        drawn.quantize(256).save(arguments.work / f"{name}.png", optimize=True)
    logging.info("sheets after %d steps, %d samples", steps, samples)


def measuring(arguments: argparse.Namespace) -> None:
    """Count how often the last checkpoint draws what it is asked for; prints JSON."""
    painter = _painter(arguments)
    pipeline, _, _ = publish.assemble(painter, arguments.work)
    second = None
    if arguments.second_judge:
        from base.second_judge import NearestArt  # needs the toolkit, which a bare machine lacks

        second = NearestArt(painter).name_all
    found = accuracy.measure(
        painter, pipeline, arguments.work, arguments.guidance, second, arguments.seeds
    )
    print(json.dumps({"guidance": arguments.guidance} | accuracy.as_json(found)))


def fidelity(arguments: argparse.Namespace) -> None:
    """Measure FOLDER/vae on pictures it never saw; prints JSON, leaves reconstructions.png."""
    found = autoencoder.measure(_painter(arguments), arguments.work / "art.zip", arguments.work)
    print(json.dumps({name: round(value, 2) for name, value in asdict(found).items()}))


def sheet_prompts(world: art.World) -> list[str]:
    """Two prompts for each name, in two styles the base has seen it in, on changing backgrounds."""
    things = [f"a {style} {name}" for name in world.names for style in world.styles_of(name)[:2]]
    return [f"{thing} {place}" for thing, place in zip(things, cycle(SHEET_PLACES), strict=False)]


def pair_prompts(world: art.World) -> list[str]:
    """Every two neighbours of the list of names, the first one on the left."""
    things = [f"a {world.styles_of(name)[-1]} {name}" for name in world.names]
    return [
        f"{left} on the left and {right} on the right {place}"
        for left, right, place in zip(things[::2], things[1::2], cycle(SHEET_PLACES), strict=False)
    ]


def group_prompts(world: art.World, count: int) -> list[str]:
    """Names that stand `len(names) / count` apart in the list, from left to right, by rows."""
    things = [f"{captions.article(world.styles_of(name)[-1])} {name}" for name in world.names]
    apart = len(things) // count
    groups = [[things[start + i * apart] for i in range(count)] for start in range(apart)]
    return [
        f"{', '.join(group[:-1])} and {group[-1]} {place}"
        for group, place in zip(groups, cycle(SHEET_PLACES), strict=False)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    steps = parser.add_subparsers(required=True, metavar="STEP")
    for name, step in {
        "pack": pack,
        "encoder": encoder,
        "restore": restore,
        "train": train,
        "recipes": recipes,
        "bind": bind,
        "decoder": decoder,
        "finish": finish,
        "scorer": scoring,
        "publish": publishing,
        "sheet": sheet,
        "accuracy": measuring,
        "fidelity": fidelity,
    }.items():
        command = steps.add_parser(name, help=step.__doc__)
        command.set_defaults(step=step)
        command.add_argument("--work", type=Path, default=Path("base_work"), help="working files")
    for package in ("fluent", "google", "twitter", "emoji"):
        steps.choices["pack"].add_argument(
            f"--{package}", type=Path, required=True, help="unpacked art package"
        )
    for name in ("encoder", "train", "recipes", "decoder", "finish", "scorer"):
        steps.choices[name].add_argument(
            "--minutes", type=float, default=9.0, help="stop after so long"
        )
    for name in ("train", "recipes"):
        command = steps.choices[name]
        command.add_argument("--stage", choices=sorted(stages.STAGES), default="finish")
        command.add_argument(
            "--processes", type=int, default=0, help="that draw; 0: none of their own"
        )
        command.add_argument(
            "--validated", type=int, default=200, help="pictures of each canvas in the final loss"
        )
    steps.choices["train"].add_argument(
        "--recipe",
        choices=("best", *RECIPES),
        default="muon",
        help="how; best: what `recipes` found",
    )
    command = steps.choices["finish"]
    command.add_argument("--batch", type=int, default=16, help="crops of 64 x 64 a step")
    steps.choices["bind"].add_argument("--steps", type=int, default=700)
    steps.choices["publish"].add_argument(
        "--to", type=Path, default=PUBLISHED, help="folder to write"
    )
    steps.choices["accuracy"].add_argument("--guidance", type=float, default=4.0)
    steps.choices["accuracy"].add_argument(
        "--seeds", type=int, default=4, help="pictures of each name, twice those of each pair"
    )
    steps.choices["accuracy"].add_argument(
        "--second-judge", action="store_true", help="ask EfficientNet-Lite0 as well"
    )
    arguments = parser.parse_args(argv)
    arguments.work.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_flush_denormal(True)
    arguments.step(arguments)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    name = arguments.recipe
    if name == "best":
        name = json.loads((arguments.work / "recipes.json").read_text())["best"]
    return RECIPES[name]


def _painter(arguments: argparse.Namespace) -> Painter:
    return Painter(art.load_world(), arguments.work / "art.zip")


if __name__ == "__main__":
    main()
