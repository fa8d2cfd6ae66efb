"""The two losses that validation measures, over the steps: as numbers, as a file, as a figure."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.files import whole_file


@dataclass(frozen=True)
class Measured:
    """The losses at one step, both over the same noise and timesteps.

    held_out: of what training does not see. trained: of images that it does.
    """

    step: int
    held_out: float
    trained: float


COLUMNS = ("step", "held_out_loss", "trained_loss")


def lowest(curve: Sequence[Measured]) -> Measured:
    """Where the loss of what was held out is lowest, the first of equals."""
    return min(curve, key=lambda one: one.held_out)


def since_lowest(curve: Sequence[Measured]) -> int:
    """How many measurements came after the lowest."""
    return len(curve) - 1 - list(curve).index(lowest(curve))


def told(curve: Sequence[Measured], steps: int, kept: bool) -> str:
    """What the curve says, in one line. kept: whether the best weights are what is written."""
    best, last = lowest(curve), curve[-1]
    where = f"step {best.step} of {steps}"
    if best == last:
        begun = f"{curve[0].held_out:.4g} at step {curve[0].step}"
        return (
            f"held-out loss: {best.held_out:.4g} at {where}, the last that was measured and the "
            f"lowest ({begun}): it may fall further with more steps"
        )
    rise = f"{last.held_out:.4g} at step {last.step}"
    seen = f"on images that are trained on {best.trained:.4g} and {last.trained:.4g}"
    if kept:
        return (
            f"written: the weights of {where}, where the held-out loss was lowest, "
            f"{best.held_out:.4g}; it was {rise} ({seen})"
        )
    return (
        f"held-out loss: lowest at {where}, {best.held_out:.4g}; it was {rise} ({seen}). Written: "
        f"the last step; training.keep=best would write step {best.step}"
    )


def write_table(curve: Sequence[Measured], path: Path) -> None:
    """`losses.csv`: a line for each measurement."""
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        rows = [(one.step, repr(one.held_out), repr(one.trained)) for one in curve]
        csv.writer(file).writerows([COLUMNS, *rows])


def write_figure(curve: Sequence[Measured], name: str, path: Path) -> None:
    """`losses.png`: both losses, and where the one of what was held out is lowest."""
    from matplotlib.figure import Figure  # slow to import

    steps, best = [one.step for one in curve], lowest(curve)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(steps, [one.held_out for one in curve], color="#e4572e", label="held out")
    axis.plot(steps, [one.trained for one in curve], color="#17bebb", label="trained on")
    axis.plot([best.step], [best.held_out], "o", color="#e4572e", label=f"lowest: {best.step}")
    axis.set_xlabel("step")
    axis.set_ylabel("loss at fixed noise")
    axis.set_title(name, fontsize=10)
    axis.legend(fontsize=8)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
