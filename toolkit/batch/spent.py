"""What making some pictures takes: seconds, passes, and a GPU's memory."""

import time

import torch

from toolkit.backbones import Base
from toolkit.batch.composition import Composition


class Spent:
    """Counts from when it is made."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.started, self.passes = time.perf_counter(), base.passes_made.copy()
        self.on_gpu = base.device.type == "cuda"
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(base.device)

    def write_into(self, compositions: list[Composition]) -> None:
        """Let each picture of a batch have its share of what was spent until now."""
        count = len(compositions)
        made = self.base.passes_made.since(self.passes)
        peak = torch.cuda.max_memory_allocated(self.base.device) if self.on_gpu else None
        seconds = (time.perf_counter() - self.started) / count
        for composition in compositions:
            composition.seconds = seconds
            composition.passes = made.denoising / count
            composition.guidance_passes = made.guidance / count
            composition.peak_memory = peak
            composition.together = count
