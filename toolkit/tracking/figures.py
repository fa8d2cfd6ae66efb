"""Figures of one composition: where each concept looked, and how the constraints fell."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from PIL import Image
from torch import Tensor

from toolkit.files import whole_file
from toolkit.layout.areas import area_of, as_array, bounds_of, own_cells
from toolkit.layout.layout import Box, Layout, Region, name_of

_FINE = 256
"""Rows and columns of the grid that a mask's outlines are drawn along."""
_COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#76b041", "#8f5bd8", "#d0417e")


_KEY = (
    "Each row: where the picture attends to one concept's words, bright for much, at three of the "
    "refined denoising steps (step 0 is the first, from noise).\n"
    "Good: most of it in the concept's own box (solid). Red, dashed: another concept's box, where "
    "this one's attention is as dense as in its own."
)


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
    """The picture with its regions, and each concept's attention map at up to `shown` steps.

    A map's title says what share of its concept's attention lies in the concept's own region;
    another's is drawn in red, with its share, where attention is as dense as in the own one.
    """
    chosen = _spread(steps, shown)
    columns = 1 + len(chosen)
    rows = max(len(layout.regions), 1)
    aspect = layout.height / layout.width
    figure = Figure(figsize=(3.2 * columns, 3.2 * aspect * rows + 1.2), layout="constrained")
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
            attention = step.maps[row].cpu().float()
            inside = share_inside(attention, region)
            axis.set_title(
                f"{name_of(region.concept)}, step {step.number}: {inside:.0%} in its box",
                fontsize=9,
            )
            _draw_region(axis, region, row, "")
            for other in layout.regions:
                if other.concept != region.concept and strays(attention, region, other):
                    _mark_stray(axis, bounds_of(other), share_inside(attention, other))
    figure.supxlabel(_KEY, fontsize=8)
    return figure


def share_inside(attention: Tensor, region: Region) -> float:
    """What share of a map (h, w) lies in the cells of a region."""
    return float(_inside(attention, region).sum() / attention.sum().clamp(min=1e-12))


def strays(attention: Tensor, own: Region, other: Region) -> bool:
    """Whether a concept's attention, a map (h, w), is as dense in another's box as in its own."""
    elsewhere, here = _inside(attention, other), _inside(attention, own)
    return elsewhere.numel() > 0 and bool(elsewhere.mean() >= here.mean())


def _inside(attention: Tensor, region: Region) -> Tensor:
    rows, columns = attention.shape
    cells = own_cells(area_of(region), rows, columns)
    if cells is None:
        return attention.new_zeros(0)
    return attention[torch.from_numpy(as_array(cells, rows, columns))]


def _mark_stray(axis, box: Box, share: float) -> None:  # type: ignore[no-untyped-def]
    x0, y0, x1, y1 = box
    frame = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="red", linestyle="--")
    axis.add_patch(frame)
    axis.text(
        x0 + 0.01, y1 - 0.02, f"{share:.0%} here", color="red", fontsize=8, backgroundcolor="white"
    )


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
    axis.set_xlabel("denoising step (0 is the first, from noise); lower is better", fontsize=8)
    axis.set_ylabel("weighted loss", fontsize=8)
    if names:
        axis.legend(fontsize=8)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all, the same bytes for the same figure."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def _draw_region(axis, region: Region, number: int, name: str) -> None:  # type: ignore[no-untyped-def]
    """A box or a polygon as it is; of a mask its outlines."""
    x0, y0, x1, y1 = bounds_of(region)
    colour = _COLOURS[number % len(_COLOURS)]
    if region.mask:
        _draw_outlines(axis, region, colour)
    else:
        corners = region.polygon or ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        axis.add_patch(Polygon(corners, fill=False, color=colour, linewidth=1.8))
    if name:
        axis.text(x0 + 0.01, y0 + 0.02, name, color=colour, fontsize=8, va="top", weight="bold")


def _draw_outlines(axis, region: Region, colour: str) -> None:  # type: ignore[no-untyped-def]
    raster = area_of(region).raster
    assert raster is not None
    inside = np.pad(raster.half_covered(_FINE, _FINE), 1).astype(float)
    middles = (np.arange(_FINE + 2) - 0.5) / _FINE
    axis.autoscale(False)  # the canvas's edges stay the axis's
    axis.contour(middles, middles, inside, levels=[0.5], colors=[colour], linewidths=1.8)


def _spread(steps: Sequence[RefinedStep], count: int) -> list[RefinedStep]:
    """Up to `count` of `steps`, the first and the last among them."""
    if len(steps) <= count:
        return list(steps)
    return [steps[round(index * (len(steps) - 1) / (count - 1))] for index in range(count)]
