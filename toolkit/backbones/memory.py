"""How many pictures fit into a device's free memory at once."""

import os
from contextlib import suppress
from pathlib import Path

import torch

from toolkit.backbones import Base
from toolkit.errors import InputError

MOST = 8
"""Beyond this a batch gains no speed: a GPU is busy."""

_VALUES_PER_CHANNEL = 200
"""Values that one picture needs at its peak, for each latent cell and channel of the first level.

Measured on a CPU in float32 as the growth of peak memory from one picture to two
(`scripts/benchmark_compose.py --batch`, Stable Diffusion 1.5, 512 x 512, 2 concepts): 192.
"""


def pictures_that_fit(base: Base, width: int, height: int) -> int:
    """Pictures of a canvas that `base`'s device has memory for now, from 1 to MOST; 1 on a CPU.

    An estimate: a batch that does not fit is halved all the same.
    """
    if base.device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(base.device)
    return max(1, min(MOST, free // bytes_of_picture(base, width, height)))


def bytes_of_picture(base: Base, width: int, height: int) -> int:
    """What one more picture in a batch takes, in bytes."""
    cells = (width // base.pixels_per_latent) * (height // base.pixels_per_latent)
    channels = int(base.unet.config.block_out_channels[0])
    return cells * channels * _VALUES_PER_CHANNEL * base.dtype.itemsize


def check_memory(what: str, base: Base, width: int, height: int, pictures: int = 1) -> None:
    """Raise InputError for pictures that need far more memory at once than this machine has.

    What they need is an estimate, so only what is half as much again is refused.
    """
    needed, there = pictures * bytes_of_picture(base, width, height), memory_of_machine()
    if needed > 1.5 * there:
        raise InputError(
            f"{what}: {pictures} x {width} x {height} pixels need about {needed / 1e9:,.0f} GB of "
            f"memory, and this machine has {there / 1e9:,.0f}: take less"
        )


def memory_of_machine() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    with suppress(OSError, ValueError):  # no such limit, or the word "max"
        there = min(there, int(limit.read_text()))
    return there
