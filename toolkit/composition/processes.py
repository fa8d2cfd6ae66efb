"""Processes that share nothing but the results: one that dies takes no other along."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import (
    _set_num_threads_if_needed,
    _SubprocessScriptLauncher,
)


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
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


class IndependentProcesses(DDPStrategy):
    """Processes that meet twice, before the first picture and after the last.

    They meet through gloo, also on GPUs: it tells at once that a process is gone, where NCCL waits.
    The last may need days longer than the first, so nobody gives up waiting for one that lives.
    """

    def __init__(self) -> None:
        super().__init__(process_group_backend="gloo", timeout=timedelta(days=30))

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)
