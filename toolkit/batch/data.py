"""Batches of pictures to make, split over processes."""

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from toolkit.batch.journal import Item


class Batches(Dataset[list[Item]]):
    """Ready batches as a dataset, so that a loader hands them out as they are."""

    def __init__(self, batches: Sequence[Sequence[Item]]) -> None:
        self.batches = [list(batch) for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Item]:
        return self.batches[index]


BatchSize = Callable[[int, int], int]
"""How many pictures to make at once, for a canvas of width and height."""


def make_batches(items: Sequence[Item], batch_size: BatchSize) -> list[list[Item]]:
    """Batches of one canvas size each, with the same concepts near each other."""
    batches: list[list[Item]] = []
    for canvas, group in groupby(_ordered(items), key=_canvas):
        own = list(group)
        size = batch_size(*canvas)
        batches += [own[start : start + size] for start in range(0, len(own), size)]
    return batches


def share_of(items: Sequence[Item], rank: int, count: int) -> list[Item]:
    """What the process `rank` of `count` makes: of each canvas size an equal run of neighbours.

    So its concepts are few, and no process gets all the large canvases. What is left over of a
    canvas size goes to other processes than that of the one before.
    """
    own: list[Item] = []
    for turn, (_, group) in enumerate(groupby(_ordered(items), key=_canvas)):
        run = list(group)
        place = (rank + turn) % count
        own += run[place * len(run) // count : (place + 1) * len(run) // count]
    return own


class Items(LightningDataModule):
    """Gives each process its share, in batches; a process may be left with none."""

    def __init__(self, items: Sequence[Item], batch_size: BatchSize) -> None:
        """batch_size: asked when the processes have started and the base is on its device."""
        super().__init__()
        self.items = list(items)
        self.batch_size = batch_size
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def predict_dataloader(self) -> DataLoader[list[Item]]:
        rank, count = 0, 1
        if self.trainer is not None:
            rank, count = self.trainer.global_rank, self.trainer.world_size
        own = share_of(self.items, rank, count)
        return DataLoader(Batches(make_batches(own, self.batch_size)), batch_size=None)

    def transfer_batch_to_device(
        self, batch: Sequence[Item], device: torch.device, dataloader_idx: int
    ) -> Sequence[Item]:
        """Items hold no tensors, and Lightning refuses to look into frozen dataclasses."""
        return batch


def _ordered(items: Sequence[Item]) -> list[Item]:
    return sorted(
        items,
        key=lambda item: (
            *_canvas(item),
            item.layout.concepts,
            item.layout.name,
            item.seed,
        ),
    )


def _canvas(item: Item) -> tuple[int, int]:
    return item.layout.width, item.layout.height
