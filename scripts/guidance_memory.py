"""What a guidance pass keeps for its way back: `python scripts/guidance_memory.py --help`.

The full architecture with tensors that have a shape and no values, so it is counted in seconds and
not computed. Every tensor that autograd keeps counts once, weights aside; fused attention keeps its
queries, keys, values and results, as on a GPU. With --computed a pass and its way back are made, on
the CPU, with all blocks kept and with blocks computed again: the processor's seconds, which depend
little on what else runs, and the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from benchmark_compose import Peak
from sd15 import layout_of, random_base, random_concept
from sdxl import random_xl
from torch import Tensor, nn
from torch.nn import functional

from toolkit.backbones import Base
from toolkit.backbones.unet import recomputing
from toolkit.backbones.unet.passes import Passes
from toolkit.methods.lora_composer import PUBLISHED

NOWHERE = "meta"


class Fused(torch.autograd.Function):
    """Attention as far as memory goes."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, attended)
        return attended


def passes_of(base: Base, concepts: int, width: int, height: int, pictures: int = 1) -> Passes:
    """The passes over pictures of so many concepts."""
    layout = layout_of(concepts, width, height)
    drawn = {r.concept: random_concept(base, r.concept) for r in layout.regions}
    return base.passes(PUBLISHED.prepare(base, layout, drawn) * pictures, PUBLISHED.regional)


class Kept:
    """What autograd keeps of what is done in the block, the networks' own weights aside.

    The tensors must live as long as the block, or two of them may be taken for one.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self._weights = {
            parameter.untyped_storage()._cdata
            for network in networks
            for parameter in network.parameters()
        }
        self._storages: dict[int, torch.UntypedStorage] = {}

    def __enter__(self) -> Kept:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__()
        self.bytes = sum(storage.nbytes() for storage in self._storages.values())
        self._storages.clear()

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._weights:
            self._storages[storage._cdata] = storage
        return tensor


def fused() -> Any:
    """Let fused attention keep what it keeps on a GPU."""
    return patch.object(
        functional, "scaled_dot_product_attention", lambda q, k, v, **_: Fused.apply(q, k, v)
    )


def told(name: str, forward: float, seconds: float, peak: Peak) -> dict[str, float]:
    """What was measured of one way, printed as it is known."""
    found = {
        "forward_s": round(forward, 2),
        "seconds": round(seconds, 2),
        "peak_bytes": peak.bytes,
    }
    print(json.dumps({name: found}), flush=True)
    return found


def kept_bytes(base: Base, concepts: int, width: int, height: int, pictures: int = 1) -> int:
    """What a guidance pass keeps, with maps of self-attention too."""
    passes = passes_of(base, concepts, width, height, pictures)
    shape = (pictures, base.latent_channels, *base.latent_size(width, height))
    latents = torch.randn(shape, device=NOWHERE).requires_grad_()
    timestep, numbers = torch.tensor(500, device=NOWHERE), range(pictures)
    with fused(), Kept(base.unet) as kept:
        found = passes.maps(latents, timestep, numbers, self_attention=True)
    del found
    return kept.bytes


def computed(base: Base, concepts: int, width: int, height: int) -> dict[str, dict[str, float]]:
    """Seconds of the pass and of all with its way back, and the process's peak in bytes."""
    passes = passes_of(base, concepts, width, height)
    size = base.latent_size(width, height)
    latents = torch.randn(1, base.latent_channels, *size).requires_grad_()
    found = {}
    gradients = []
    for name, most in (("computed_again", 0), ("all_kept", 2**62)):
        with patch.object(recomputing, "KEPT_AT_MOST", most), Peak("cpu") as peak:
            started = time.process_time()
            maps = passes.maps(latents, torch.tensor(500), [0], self_attention=True)
            forward = time.process_time() - started
            total = torch.stack([each.square().sum() for each in maps if each is not None]).sum()
            gradients.append(torch.autograd.grad(total, latents)[0])
            seconds = time.process_time() - started
            del maps, total
        found[name] = told(name, forward, seconds, peak)
    assert torch.equal(*gradients), "the gradients differ"
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--family", default="sdxl", choices=["sd15", "sdxl"])
    parser.add_argument("--height", type=int, default=1024, help="pixels")
    parser.add_argument("--width", type=int, default=1024, help="pixels")
    parser.add_argument("--concepts", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1, help="pictures at once, where counted")
    parser.add_argument("--dtype", default="float16", choices=["float32", "float16", "bfloat16"])
    parser.add_argument(
        "--guidance-layers", type=int, nargs="*", help="model.guidance_layers, as 2 3 4"
    )
    parser.add_argument("--computed", action="store_true", help="make the passes, on the CPU")
    arguments = parser.parse_args(argv)
    make = random_xl if arguments.family == "sdxl" else random_base
    with torch.device("cpu" if arguments.computed else NOWHERE) as device:
        base = make(device.type, getattr(torch, arguments.dtype))
    base = replace(base, guidance_layers=tuple(arguments.guidance_layers or ()) or None)
    asked = (base, arguments.concepts, arguments.width, arguments.height)
    if arguments.computed:
        found: dict[str, Any] = computed(*asked)
    else:
        found = {
            "kept_bytes": kept_bytes(*asked, arguments.batch),
            "estimated_bytes": arguments.batch
            * base.bytes_of_picture(arguments.width, arguments.height),
        }
    layers = [layer.transformer for layer in base.guiding]
    print(json.dumps({**vars(arguments), "guidance_layers": layers, **found}))


if __name__ == "__main__":
    main()
