"""How many pictures fit into a device's free memory at once."""

import os
from contextlib import suppress
from pathlib import Path

import torch

from toolkit.backbones.protocol import Backbone
from toolkit.errors import InputError

MOST = 8
"""Beyond this a batch gains no speed: a GPU is busy."""


def pictures_that_fit(base: Backbone, width: int, height: int) -> int:
    """Pictures of a canvas that `base`'s device has memory for now, from 1 to MOST; 1 on a CPU.

    An estimate: a batch that does not fit is halved all the same.
    """
    if base.device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(base.device)
    return max(1, min(MOST, free // base.bytes_of_picture(width, height)))


def free_memory(base: Backbone) -> int:
    """Bytes that are free now on `base`'s device."""
    if base.device.type == "cuda":
        return int(torch.cuda.mem_get_info(base.device)[0])
    return min(memory_of_machine(), _available())


def check_memory(what: str, base: Backbone, width: int, height: int, pictures: int = 1) -> None:
    """Raise InputError for pictures that need far more memory at once than this machine has.

    What they need is an estimate, so only what is half as much again is refused.
    """
    needed, there = pictures * base.bytes_of_picture(width, height), memory_of_machine()
    if needed > 1.5 * there:
        raise InputError(
            f"{what}: {pictures} x {width} x {height} pixels need about {needed / 1e9:,.0f} GB of "
            f"memory, and this machine has {there / 1e9:,.0f}: take less"
        )


def _available() -> int:
    """Bytes of the machine's memory that nothing needs, as Linux tells; all of it elsewhere."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return memory_of_machine()


def memory_of_machine() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    with suppress(OSError, ValueError):  # no such limit, or the word "max"
        there = min(there, int(limit.read_text()))
    return there
