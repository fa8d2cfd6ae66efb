"""Batches of pictures to make, split over processes."""

from collections.abc import Sequence

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from toolkit.composition.journal import Item


class Batches(Dataset[list[Item]]):
    """Ready batches as a dataset, so that a loader hands them out as they are."""

    def __init__(self, batches: Sequence[Sequence[Item]]) -> None:
        self.batches = [list(batch) for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Item]:
        return self.batches[index]


def make_batches(items: Sequence[Item], batch_size: int) -> list[list[Item]]:
    """Batches of one canvas size each, with the same concepts near each other."""
    ordered = sorted(
        items,
        key=lambda item: (
            item.layout.width,
            item.layout.height,
            item.layout.concepts,
            item.layout.name,
            item.seed,
        ),
    )
    batches: list[list[Item]] = []
    for item in ordered:
        last = batches[-1] if batches else []
        fits = bool(last) and len(last) < batch_size
        if fits and _canvas(last[0]) == _canvas(item):
            last.append(item)
        else:
            batches.append([item])
    return batches


class Items(LightningDataModule):
    """Gives each process every n-th batch; a process may be left with none."""

    def __init__(self, batches: Sequence[Sequence[Item]]) -> None:
        super().__init__()
        self.batches = list(batches)
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def predict_dataloader(self) -> DataLoader[list[Item]]:
        rank, count = 0, 1
        if self.trainer is not None:
            rank, count = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(Batches(self.batches[rank::count]), batch_size=None)

    def transfer_batch_to_device(
        self, batch: Sequence[Item], device: torch.device, dataloader_idx: int
    ) -> Sequence[Item]:
        """Items hold no tensors, and Lightning refuses to look into frozen dataclasses."""
        return batch


def _canvas(item: Item) -> tuple[int, int]:
    return item.layout.width, item.layout.height
