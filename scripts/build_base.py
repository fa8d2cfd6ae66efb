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
from base import accuracy, art, autoencoder, binding, publish, scorer, text_to_image
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


def train(arguments: argparse.Namespace) -> None:
    """Train text tower and U-Net on one stage of the curriculum."""
    text_to_image.train(
        _painter(arguments),
        arguments.work,
        arguments.stage,
        arguments.minutes,
        arguments.learning_rate,
        arguments.freeze_text,
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
    """Draw fixed prompts with the last checkpoint into FOLDER/sheet.png and sheet_wide.png."""
    painter = _painter(arguments)
    pipeline, steps, samples = publish.assemble(painter, arguments.work)
    side = arguments.side
    publish.sample_sheet(pipeline, sheet_prompts(painter.world), (side, side), 8).save(
        arguments.work / "sheet.png"
    )
    if side == 128:
        publish.sample_sheet(pipeline, pair_prompts(painter.world), (256, 128), 4).save(
            arguments.work / "sheet_wide.png"
        )
    logging.info("sheet after %d steps, %d samples", steps, samples)


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
        "bind": bind,
        "decoder": decoder,
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
    for name in ("encoder", "train", "decoder", "scorer"):
        steps.choices[name].add_argument(
            "--minutes", type=float, default=9.0, help="stop after so long"
        )
    steps.choices["train"].add_argument(
        "--stage", choices=sorted(text_to_image.STAGES), default="wide"
    )
    steps.choices["train"].add_argument("--learning-rate", type=float, default=6e-4)
    steps.choices["train"].add_argument(
        "--freeze-text", action="store_true", help="train the U-Net alone; the scorer stays valid"
    )
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
    steps.choices["sheet"].add_argument("--side", type=int, default=128, help="pixels")
    arguments = parser.parse_args(argv)
    arguments.work.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_flush_denormal(True)
    arguments.step(arguments)


def _painter(arguments: argparse.Namespace) -> Painter:
    return Painter(art.load_world(), arguments.work / "art.zip")


if __name__ == "__main__":
    main()
