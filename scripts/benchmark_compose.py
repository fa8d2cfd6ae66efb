"""What LoRA-Composer costs above plain sampling: `python scripts/benchmark_compose.py --help`.

The full architecture of Stable Diffusion 1.5, or of XL (--family sdxl), with random weights, built
in memory, and random ED-LoRAs. Plain diffusers sampling and ours take turns in one process: the
same scheduler, steps and guidance scale, latents only, re-initialisation included in ours, and the
constraints on for exactly half of the steps, the method's worst case. Re-initialisation is one pass
for a picture, however many steps it has: `ratio_of_50_steps` is what follows for 50 steps from what
each part took. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sd15 import GUIDANCE_SCALE, layout_of, plain_pipeline, random_base, random_concept
from sdxl import random_xl

from toolkit import sampling
from toolkit.backbones.unet.passes import Passes
from toolkit.concept import load_concept, save_concept
from toolkit.methods import refining
from toolkit.methods.lora_composer import LoraComposer
from toolkit.methods.refining import Refining


class Peak:
    """The most memory in use during a block: the process's on a CPU, the allocator's on a GPU."""

    def __init__(self, device: str) -> None:
        self.device, self.bytes = device, 0
        self._stop = threading.Event()

    def __enter__(self) -> Peak:
        if self.device == "cpu":
            ctypes.CDLL(None).malloc_trim(0)  # what an earlier run left would hide this one's peak
            self._watcher = threading.Thread(target=self._watch)
            self._watcher.start()
        else:
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device == "cpu":
            self._stop.set()
            self._watcher.join()
        else:
            self.bytes = torch.cuda.max_memory_allocated()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.bytes = max(self.bytes, pages * 4096)


@contextmanager
def timed(module: Any, name: str, spent: dict[str, float], device: str) -> Iterator[None]:
    """Add the time of every call of module.name to spent[name]."""
    original: Callable[..., Any] = getattr(module, name)

    def call(*arguments: Any, **named: Any) -> Any:
        started = now(device)
        try:
            return original(*arguments, **named)
        finally:
            spent[name] = spent.get(name, 0.0) + now(device) - started

    setattr(module, name, call)
    try:
        yield
    finally:
        setattr(module, name, original)


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""The processor's own seconds depend little on what else runs beside one thread."""

_clock = CLOCKS["wall"]


def now(device: str) -> float:
    """Seconds, once the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()
    return _clock()


def half_of(steps: int) -> LoraComposer:
    """The whole method with the constraints on for exactly half of the steps."""
    return LoraComposer(adaptive_stop=False, max_guidance_steps=steps // 2 - 1)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both in turns and report medians per picture."""
    device, dtype = arguments.device, getattr(torch, arguments.dtype)
    xl = arguments.family == "sdxl"
    base = random_xl(device, dtype) if xl else random_base(device, dtype)
    base = replace(base, guidance_layers=tuple(arguments.guidance_layers or ()) or None)
    layout = layout_of(arguments.concepts, arguments.width, arguments.height)
    names = [region.concept for region in layout.regions]
    folder = Path(arguments.work)
    for name in names:
        save_concept(random_concept(base, name), folder / f"{name}.safetensors")
    pipeline = plain_pipeline(base, arguments.steps)
    started = now(device)
    concepts = {name: load_concept(folder / f"{name}.safetensors") for name in names}
    method = half_of(arguments.steps)
    prepared = method.prepare(base, layout, concepts)
    prepare_s = now(device) - started
    seeds = list(range(arguments.batch))
    noise = sampling.initial_noise(base, layout.width, layout.height, seeds)
    text = {"embeds": torch.randn(1, 77, base.text_width).to(device, dtype)}
    if base.text_encoder_2 is not None:
        pooled = torch.randn(1, base.text_encoder_2.config.projection_dim)
        text["pooled"] = pooled.to(device, dtype)
    given = {
        f"{side}{'pooled_' if name == 'pooled' else ''}prompt_embeds": part
        for name, part in text.items()
        for side in ("", "negative_")
    }

    def plain(steps: int) -> None:
        pipeline(
            **given,
            num_images_per_prompt=arguments.batch,
            latents=noise.to(dtype),
            width=layout.width,
            height=layout.height,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE_SCALE,
            output_type="latent",
        )

    refined: list[int] = []

    def ours(steps: int) -> None:
        def watch(step: sampling.Step) -> None:
            if step.guidance:
                refined.append(step.number)

        views = [prepared] * arguments.batch
        sampling.compose(base, half_of(steps), views, seeds, steps, GUIDANCE_SCALE, watch)

    if not arguments.cold:
        plain(2)
        ours(2)
    seconds: dict[str, list[float]] = {"plain": [], "compose": []}
    peaks = {"plain": 0, "compose": 0}
    spent: dict[str, float] = {}
    for turn in range(arguments.repeats):
        for name, run in (("plain", plain), ("compose", ours)):
            refined.clear()
            with (
                Peak(device) as peak,
                timed(Refining, "begin", spent, device),
                timed(refining, "refine", spent, device),
                timed(Passes, "maps", spent, device),
                timed(Passes, "predict", spent, device),
            ):
                started = now(device)
                run(arguments.steps)
                seconds[name].append((now(device) - started) / arguments.batch)
            peaks[name] = max(peaks[name], peak.bytes)
            logging.info("turn %d, %s: %.2f s", turn, name, seconds[name][-1])
    plain_s, compose_s = (statistics.median(seconds[name]) for name in ("plain", "compose"))
    share = 1 / (arguments.repeats * arguments.batch)
    whole = sum(seconds["compose"]) / arguments.repeats
    reinitialisation = spent["begin"] * share  # but for a little, its pass is all of it
    parts = {
        "guidance_forward": spent["maps"] * share - reinitialisation,
        "guidance_backward": (spent["refine"] - spent["maps"]) * share + reinitialisation,
        "reinitialisation": reinitialisation,
        "denoising": spent["predict"] * share,
    }
    parts["rest"] = whole - sum(parts.values())
    each_step = (whole - reinitialisation) / arguments.steps
    of_50 = (50 * each_step + reinitialisation) / (50 * plain_s / arguments.steps)
    return {
        "device": device,
        "clock": arguments.clock,
        "dtype": arguments.dtype,
        "family": arguments.family,
        "guidance_layers": [layer.transformer for layer in base.guiding],
        "width": layout.width,
        "height": layout.height,
        "concepts": arguments.concepts,
        "steps": arguments.steps,
        "batch": arguments.batch,
        "plain_s": round(plain_s, 3),
        "compose_s": round(compose_s, 3),
        "ratio": round(compose_s / plain_s, 3),
        "ratio_of_50_steps": round(of_50, 3),
        "peak_bytes": peaks,
        "guidance_steps": len(refined),
        "prepare_s": round(prepare_s, 3),
        "breakdown": {name: round(value, 3) for name, value in parts.items()},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--family", default="sd15", choices=["sd15", "sdxl"])
    parser.add_argument("--height", type=int, help="pixels; 512, for sdxl 1024")
    parser.add_argument("--width", type=int, help="pixels; 512, for sdxl 1024")
    parser.add_argument(
        "--guidance-layers", type=int, nargs="*", help="model.guidance_layers, as 2 3 4"
    )
    parser.add_argument("--cold", action="store_true", help="without a run of each before")
    parser.add_argument("--concepts", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1, help="pictures at once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS), help="on a CPU")
    parser.add_argument("--work", default="/tmp/benchmark_compose", help="where concepts are kept")
    arguments = parser.parse_args(argv)
    usual = 1024 if arguments.family == "sdxl" else 512
    arguments.height, arguments.width = arguments.height or usual, arguments.width or usual
    global _clock
    _clock = CLOCKS[arguments.clock]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
