"""What the worker tells of a job while it runs; it crosses from one process to the other."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Begun:
    """A picture is being made."""

    seed: int


@dataclass(frozen=True)
class Sampled:
    """A denoising step is done.

    step: from 0, of `steps`. losses: the constraints' weighted sums by name, `total` among them;
    empty where the step was not refined.
    preview: a PNG of the predicted clean picture, or nothing at steps without one.
    maps: with a preview, for each region a gray PNG of where its concept looked.
    """

    seed: int
    step: int
    steps: int
    losses: Mapping[str, float]
    preview: bytes = b""
    maps: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Finished:
    """A picture is there, or why it is not.

    image: its file, from the output folder. seconds: None for one that was there already.
    """

    seed: int
    image: str
    error: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Measured:
    """A line of what training measures: the step, of `steps`, and its loss."""

    step: int
    steps: int
    loss: float | None
    grids: tuple[str, ...] = ()
    """Sample grids that are there by now, from the output folder."""


@dataclass(frozen=True)
class Ended:
    """Nothing more comes of the job. error: why it failed; None where it did not."""

    error: str | None = None
    stopped: bool = False


Event = Begun | Sampled | Finished | Measured | Ended
