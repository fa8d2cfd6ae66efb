"""What a method costs: passes and seconds of each picture, kernels and memory of one."""

import csv
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch

from toolkit.backbones import Base
from toolkit.batch.asked import asked_to_compose, composition_folder
from toolkit.batch.concepts import read_concept
from toolkit.batch.journal import Item, error_of, read_entry
from toolkit.concept.cache import ConceptCache
from toolkit.config.schema import ComposeConfig, EvaluateConfig
from toolkit.errors import RunError, one_line
from toolkit.evaluation.kernels import KernelCounter
from toolkit.evaluation.tensor_memory import TensorMemory
from toolkit.files import whole_file
from toolkit.layout.layout import Layout
from toolkit.sampling import compose

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """What a picture of one method costs; None where it is not known.

    passes, guidance_passes, seconds: means over pictures, as their records have them. A pass is one
    picture's for one side of guidance; a guidance pass is shorter, and goes backward too.
    kernels: operations that launch work, for one picture. peak_memory: bytes at most, the base
    included: a GPU's own count for the batches that were made, or what `measure` found.
    """

    method: str
    pictures: int
    passes: float | None = None
    guidance_passes: float | None = None
    seconds: float | None = None
    kernels: int | None = None
    peak_memory: int | None = None


def recorded_cost(config: ComposeConfig, layouts: Sequence[Layout]) -> Cost:
    """What the records of a method's finished pictures say; older ones say less."""
    folder = composition_folder(config)
    items = [Item(layout, seed) for layout in layouts for seed in config.seeds]
    entries = [
        read_entry(item.path(folder, ".json")) or {}
        for item in items
        if error_of(item, folder) is None
    ]

    def mean(key: str) -> float | None:
        values = [float(entry[key]) for entry in entries if entry.get(key) is not None]
        return math.fsum(values) / len(values) if values and len(values) == len(entries) else None

    peaks = [int(entry["peak_memory"]) for entry in entries if entry.get("peak_memory")]
    return Cost(
        config.method_name,
        len(entries),
        mean("passes"),
        mean("guidance_passes"),
        mean("seconds"),
        peak_memory=max(peaks, default=None),
    )


def measure(config: EvaluateConfig, cost: Cost, composition: ComposeConfig, base: Base) -> Cost:
    """`cost` with the kernels and the memory of one picture, the first, made for this alone.

    base: on the device that composes. Operations are counted as this device is given them.
    """
    asked = asked_to_compose(composition)
    layout = asked.usable[0]
    concepts = ConceptCache(asked.files, partial(read_concept, base=base))
    method, sampling = composition.method, composition.sampling

    def picture() -> None:
        prepared = [method.prepare(base, layout, concepts)]
        latents = compose(
            base, method, prepared, config.seeds[:1], sampling.steps, sampling.guidance_scale
        )
        if base.vae is not None:
            with torch.no_grad():
                pixels = base.decode(latents)[0]
                method.finish(pixels, layout, config.seeds[0], asked.exemplars)

    kernels, memory = KernelCounter(base.device), TensorMemory()
    weights = [tensor for network in base.networks.values() for tensor in network.parameters()]
    for tensor in weights:
        memory.leave_out(tensor)
    try:
        with memory, kernels:
            picture()
    except RunError as error:  # as its pictures failed, too
        log.warning("%s: what a picture costs is not known: %s", cost.method, one_line(error))
        return cost
    held = sum(tensor.nbytes for tensor in weights)
    return replace(cost, kernels=kernels.total, peak_memory=cost.peak_memory or held + memory.peak)


def write_costs(costs: Sequence[Cost], path: Path) -> None:
    """Write `costs.csv`: a row for each method; nothing where something is not known."""
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Cost)])
        writer.writeheader()
        for cost in costs:
            writer.writerow(asdict(cost))


COLUMNS = ("passes", "seconds", "kernels", "memory")


def cells_of(cost: Cost | None) -> list[str]:
    """What the table shows under COLUMNS."""
    if cost is None:
        return ["-"] * len(COLUMNS)
    passes = "-" if cost.passes is None else f"{cost.passes:g}"
    if cost.guidance_passes:
        passes += f" + {cost.guidance_passes:.3g}"
    return [
        passes,
        "-" if cost.seconds is None else f"{cost.seconds:.3g}",
        "-" if cost.kernels is None else f"{cost.kernels:,}",
        "-" if cost.peak_memory is None else f"{cost.peak_memory / 1e6:,.0f} MB",
    ]
