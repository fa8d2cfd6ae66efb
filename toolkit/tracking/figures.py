"""Figures of one composition: where each concept looked, and how the constraints fell."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from PIL import Image
from torch import Tensor

from toolkit.files import whole_file
from toolkit.layout.areas import bounds_of
from toolkit.layout.layout import Layout, Region, name_of

_COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#76b041", "#8f5bd8", "#d0417e")


@dataclass(frozen=True)
class RefinedStep:
    """What one refined step left for the figures.

    losses: the constraints' weighted sums by name, `total` among them.
    maps: one for each region, (h, w), summed over the concept's tokens.
    """

    number: int
    losses: dict[str, float]
    maps: tuple[Tensor, ...]


def attention_figure(
    picture: Image.Image | None, layout: Layout, steps: Sequence[RefinedStep], shown: int = 3
) -> Figure:
    """The picture with its regions, and each concept's attention map at up to `shown` steps."""
    chosen = _spread(steps, shown)
    columns = 1 + len(chosen)
    rows = max(len(layout.regions), 1)
    aspect = layout.height / layout.width
    figure = Figure(figsize=(3.2 * columns, 3.2 * aspect * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    if picture is not None:
        axes[0][0].imshow(picture, extent=(0, 1, 1, 0), aspect=aspect)
        axes[0][0].set_title(layout.name, fontsize=9)
        for number, region in enumerate(layout.regions):
            _draw_region(axes[0][0], region, number, name_of(region.concept))
    for row, region in enumerate(layout.regions):
        for column, step in enumerate(chosen, 1):
            axis = axes[row][column]
            axis.imshow(step.maps[row].cpu().float(), extent=(0, 1, 1, 0), aspect=aspect)
            axis.set_title(f"{name_of(region.concept)}, step {step.number}", fontsize=9)
            _draw_region(axis, region, row, "")
    return figure


def loss_figure(steps: Sequence[RefinedStep], title: str) -> Figure:
    """The weighted constraints over the refined steps."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    names = list(steps[0].losses) if steps else []
    for name in names:
        width = 2.2 if name == "total" else 1.2
        numbers = [step.number for step in steps]
        axis.plot(numbers, [step.losses[name] for step in steps], label=name, linewidth=width)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("step")
    axis.set_ylabel("weighted loss")
    if names:
        axis.legend(fontsize=8)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all, the same bytes for the same figure."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def _draw_region(axis, region: Region, number: int, name: str) -> None:  # type: ignore[no-untyped-def]
    """A box or a polygon as it is; of a mask its bounding box."""
    x0, y0, x1, y1 = bounds_of(region)
    corners = region.polygon or ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    colour = _COLOURS[number % len(_COLOURS)]
    axis.add_patch(Polygon(corners, fill=False, color=colour, linewidth=1.8))
    if name:
        axis.text(x0 + 0.01, y0 + 0.02, name, color=colour, fontsize=8, va="top", weight="bold")


def _spread(steps: Sequence[RefinedStep], count: int) -> list[RefinedStep]:
    """Up to `count` of `steps`, the first and the last among them."""
    if len(steps) <= count:
        return list(steps)
    return [steps[round(index * (len(steps) - 1) / (count - 1))] for index in range(count)]
