"""Several processes at one batch: they meet before the first picture and after the last."""

from datetime import timedelta

import torch.distributed
from lightning.pytorch.strategies import DDPStrategy

_TO_MEET = timedelta(minutes=30)
_TO_WORK = timedelta(days=30)


def several_processes() -> DDPStrategy:
    """Lightning's processes; one that the others wait for in vain at the start ends them.

    They meet through gloo, also on GPUs: it tells at once that a process is gone, where NCCL waits.
    """
    return DDPStrategy(process_group_backend="gloo", timeout=_TO_MEET)


def wait_for_the_others() -> bool:
    """Whether all have come here; False as soon as one of them is gone.

    The last may need days longer than the first, so nobody gives up waiting for one that lives.
    """
    try:
        torch.distributed.monitored_barrier(timeout=_TO_WORK)
    except RuntimeError:  # what torch.distributed raises when a peer is gone
        return False
    return True
