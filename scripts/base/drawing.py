"""Training pictures drawn by other processes while this one trains."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing
from torch import Tensor

from .art import World
from .scenes import Painter, SceneKind

CHUNK = 32  # pictures that are handed over at once

Drawn = tuple[int, Tensor, list[str]]  # which kind; (n, height, width, 3) bytes; captions


def draw_chunk(
    painter: Painter, kind: SceneKind, count: int, rng: np.random.Generator
) -> tuple[Tensor, list[str]]:
    """(count, height, width, 3) bytes of random pictures of a kind, and their captions."""
    drawn = [painter.picture(rng, kind) for _ in range(count)]
    pixels = np.stack([np.asarray(picture) for picture, _ in drawn])
    return torch.from_numpy(pixels), [caption for _, caption in drawn]


class Drawers:
    """Processes that draw pictures of some kinds, each as often as its weight says."""

    def __init__(
        self,
        world: World,
        pack: Path,
        kinds: Sequence[tuple[float, SceneKind]],
        processes: int,
        seed: int,
    ) -> None:
        """Start them; they wait when nobody takes what they drew."""
        context = torch.multiprocessing.get_context("spawn")
        self._drawn = context.Queue(maxsize=8 * processes)
        self._processes = [
            context.Process(
                target=_draw_for_ever,
                args=(world, pack, list(kinds), [seed, index], self._drawn),
                daemon=True,
            )
            for index in range(processes)
        ]
        for process in self._processes:
            process.start()

    def take(self) -> Drawn:
        """The next chunk; waits for it."""
        drawn: Drawn = self._drawn.get(timeout=120)
        return drawn

    def take_if_any(self) -> Drawn | None:
        """The next chunk, if one is there."""
        try:
            drawn: Drawn = self._drawn.get_nowait()
        except queue.Empty:
            return None
        return drawn

    def close(self) -> None:
        """Stop the processes."""
        for process in self._processes:
            process.terminate()


def _draw_for_ever(
    world: World,
    pack: Path,
    kinds: list[tuple[float, SceneKind]],
    seed: list[int],
    drawn: multiprocessing.Queue[Drawn],
) -> None:
    torch.set_num_threads(1)
    os.nice(5)  # whoever trains comes first
    painter, rng = Painter(world, pack), np.random.default_rng(seed)
    weights = np.array([weight for weight, _ in kinds])
    while True:
        index = int(rng.choice(len(kinds), p=weights / weights.sum()))
        drawn.put((index, *draw_chunk(painter, kinds[index][1], CHUNK, rng)))
