"""Processes wait for each other at the end, however long, and never for one that is gone."""

import os
import socket
import subprocess
import sys

import pytest

WAITS = """
import os, sys, time
from datetime import timedelta
import torch.distributed
from toolkit.batch.processes import wait_for_the_others

torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=5))
if torch.distributed.get_rank() == 1:
    if sys.argv[1] == "dies":
        os._exit(1)
    time.sleep(8)
started = time.monotonic()
print(wait_for_the_others(), time.monotonic() - started > 6)
"""


@pytest.mark.parametrize(("second", "said"), [("is slow", "True True"), ("dies", "False False")])
def test_the_first_waits_for_a_slow_neighbour_and_not_for_one_that_is_gone(
    second: str, said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WAITS, second],
            env=os.environ | group | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, _ = (process.communicate(timeout=60)[0] for process in both)
    assert first.strip() == said
