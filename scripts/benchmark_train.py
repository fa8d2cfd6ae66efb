"""What a training step needs, with and without checkpointing: `python scripts/benchmark_train.py`.

The full architecture with random weights and the recipe's own LoRA and embeddings, one image in a
step. Counted with tensors that have a shape and no values: what autograd keeps for the way back,
weights aside; fused attention keeps its queries, keys, values and results, as on a GPU. With
--computed a step is made, on the CPU: the processor's seconds, which depend little on what else
runs, and the peak of the process. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from benchmark_compose import Peak
from guidance_memory import NOWHERE, Kept, fused, told
from sd15 import random_base
from sdxl import random_xl

from toolkit.backbones import Base, Place
from toolkit.backbones.unet.framing import Framing
from toolkit.training.data import TrainingBatch
from toolkit.training.ed_lora import initial_embeddings
from toolkit.training.module import ConceptTraining
from toolkit.training.optimisers import LearningRates

RANK = 4


@contextmanager
def training_on(base: Base) -> Iterator[ConceptTraining]:
    """The recipe's training on a base."""
    generator = torch.Generator("cpu").manual_seed(0)
    rates = LearningRates(dict.fromkeys(Place, 1e-4), 1e-3)
    embeddings = initial_embeddings(base, "dog", generator)
    with base.lora_injected(RANK, generator), base.heard_by_layer():
        yield ConceptTraining(base, "rex", {}, embeddings, rates, steps=10).to(base.device)


def batch_of(base: Base, width: int, height: int) -> TrainingBatch:
    """One image with a mask, noised."""
    rows, columns = base.latent_size(width, height)
    latents = torch.randn(1, base.latent_channels, rows, columns, device=base.device)
    return TrainingBatch(
        latents=latents,
        noise=torch.randn_like(latents),
        timesteps=torch.tensor([500], device=base.device),
        masks=torch.ones(1, 1, rows, columns, device=base.device),
        has_mask=torch.tensor([True], device=base.device),
        weights=torch.ones(1, device=base.device),
        captions=("a photo of <rex>",),
        framings=(Framing.whole(width, height),),
    )


def set_checkpointing(base: Base, on: bool) -> None:
    """As `model.gradient_checkpointing` has it."""
    if on:
        base.checkpoint_gradients()
        return
    base.unet.disable_gradient_checkpointing()
    for reader in base.readers:
        reader.network.gradient_checkpointing_disable()


def counted(base: Base, width: int, height: int) -> dict[str, int]:
    """Bytes that a step keeps for its way back."""
    found = {}
    with training_on(base) as training, fused():
        batch = batch_of(base, width, height)
        for name, on in (("all_kept", False), ("checkpointed", True)):
            set_checkpointing(base, on)
            with Kept(*base.parts.values()) as kept:
                errors = training.errors(batch, training.prompts(batch))
            del errors
            found[name] = kept.bytes
    return found


def computed(base: Base, width: int, height: int, ways: Sequence[str]) -> dict[str, Any]:
    """Seconds of a step and the process's peak in bytes."""
    found = {}
    with training_on(base) as training:
        batch = batch_of(base, width, height)
        optimizer = training.configure_optimizers()["optimizer"]
        for name in ways:
            set_checkpointing(base, name == "checkpointed")
            with Peak("cpu") as peak:
                started = time.process_time()
                loss = training.errors(batch, training.prompts(batch)).mean()
                forward = time.process_time() - started
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                seconds = time.process_time() - started
            found[name] = told(name, forward, seconds, peak)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Count or measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--family", default="sdxl", choices=["sd15", "sdxl"])
    parser.add_argument("--height", type=int, default=1024, help="pixels")
    parser.add_argument("--width", type=int, default=1024, help="pixels")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--computed", action="store_true", help="make the steps, on the CPU")
    parser.add_argument(
        "--ways", nargs="+", default=["checkpointed", "all_kept"],
        choices=["checkpointed", "all_kept"], help="which steps are made with --computed",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    make = random_xl if arguments.family == "sdxl" else random_base
    size = (arguments.width, arguments.height)
    with torch.device("cpu" if arguments.computed else NOWHERE) as device:
        base = make(device.type, getattr(torch, arguments.dtype))
        if arguments.computed:
            found = computed(base, *size, arguments.ways)
        else:
            found = {f"{name}_bytes": kept for name, kept in counted(base, *size).items()}
    weights = sum(own.nbytes for network in base.parts.values() for own in network.parameters())
    print(json.dumps({**vars(arguments), "weights_bytes": weights, **found}))


if __name__ == "__main__":
    main()
