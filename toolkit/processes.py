"""Which of several processes this is, as whoever started it says."""

import os

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """Whether this process is the one that tells what all of them do."""
    return all(os.environ.get(rank, "0") == "0" for rank in _RANKS)
