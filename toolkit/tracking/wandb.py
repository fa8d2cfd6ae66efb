"""Runs in Weights & Biases: online for who is logged in, offline for all others."""

import logging
import os
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import wandb

from toolkit.errors import one_line

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "shared", "disabled"]
_LONGEST_NAME = 128  # W&B's own limit


def wandb_mode() -> Mode:
    """`online` when the person is logged in, else `offline`; it never asks.

    Raises wandb's Error when there is a key but no server that answers.
    """
    chosen = os.environ.get("WANDB_MODE")
    if chosen is not None:
        return cast(Mode, chosen)
    return "online" if wandb.login(prompt=False) else "offline"


def start_run(
    project: str,
    folder: Path,
    job_type: str,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    group: str | None = None,
) -> wandb.Run:
    """A run whose files lie under `folder`; offline where the server does not answer.

    Uploading what is left at the end takes a minute at most: `wandb sync` sends the rest. Say where
    the run is with `tell_where` once it is finished.
    """
    begin = partial(
        wandb.init,
        project=project,
        name=None if name is None else name[:_LONGEST_NAME],
        group=None if group is None else group[:_LONGEST_NAME],
        dir=str(folder),
        job_type=job_type,
        config=None if config is None else dict(config),
        settings=wandb.Settings(silent=True, init_timeout=20, finish_timeout=60),
    )
    try:
        return begin(mode=wandb_mode())
    except (wandb.Error, ValueError) as error:
        reason = one_line(error)
        log.warning("W&B logs offline: %s", reason)
        return begin(mode="offline")


def tell_where(run: wandb.Run, several: bool = False) -> None:
    """Say where a finished run is, and how one that was logged offline is sent.

    several: each process has a run of its own.
    """
    if run.disabled:
        return
    if not run.offline:
        log.info("W&B: %s", run.url)
        return
    folder = Path(run.settings.sync_dir)
    runs = (
        f"{shlex.quote(str(folder.parent))}/offline-run-*" if several else shlex.quote(str(folder))
    )
    log.info("W&B: logged offline; to send it: wandb sync %s", runs)
