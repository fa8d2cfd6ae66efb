"""Processes that share nothing but the results: one that dies takes no other along."""

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import torch.distributed
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import (
    _set_num_threads_if_needed,
    _SubprocessScriptLauncher,
)
from torch.distributed.distributed_c10d import _set_pg_timeout

log = logging.getLogger(__name__)

_PARENT = "TOOLKIT_PARENT_PROCESS"  # who started this one, which may be gone when this one looks
_TO_MEET = timedelta(minutes=30)
_TO_WORK = timedelta(days=30)


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's own, without the observer that kills the first process when another has died."""

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,
        trainer: Trainer | None = None,
        **kwargs: Any,
    ) -> Any:
        self.cluster_environment.validate_settings(
            num_devices=self.num_processes, num_nodes=self.num_nodes
        )
        parent = int(os.environ.pop(_PARENT, os.getppid()))
        if not self.cluster_environment.creates_processes_externally:
            os.environ[_PARENT] = str(os.getpid())
            self._call_children_scripts()
            del os.environ[_PARENT]
        _set_num_threads_if_needed(num_processes=self.num_processes)
        ended = Event()
        Thread(target=self._watch_until_met, args=(parent, ended), daemon=True).start()
        try:
            return function(*args, **kwargs)
        finally:
            ended.set()

    def _watch_until_met(self, parent: int, ended: Event) -> None:
        """End this process when a neighbour is gone before all have met: it would wait for it."""
        while not ended.wait(0.2) and not torch.distributed.is_initialized():
            if os.getppid() != parent or any(child.poll() is not None for child in self.procs):
                log.error("another process ended before the work began; run the command again")
                for child in self.procs:
                    child.kill()
                os._exit(1)


class IndependentProcesses(DDPStrategy):
    """Processes that meet twice, before the first picture and after the last.

    They meet through gloo, also on GPUs: it tells at once that a process is gone, where NCCL waits.
    One that is gone before they have met ends the others; after that, nobody waits for it. The last
    may need days longer than the first, so nobody gives up waiting for one that lives.
    """

    def __init__(self) -> None:
        super().__init__(process_group_backend="gloo", timeout=_TO_MEET)

    def setup_distributed(self) -> None:
        super().setup_distributed()
        _set_pg_timeout(_TO_WORK)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)
