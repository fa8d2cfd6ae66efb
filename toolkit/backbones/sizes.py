"""What canvases a base can make: told by its configuration, before anything is loaded."""

from dataclasses import dataclass

from toolkit.errors import InputError, within
from toolkit.layout.areas import areas_of, cells_of_areas, check_areas, own_cells
from toolkit.layout.layout import Layout


@dataclass(frozen=True)
class Sizes:
    """The sizes of a base's grids.

    pixels_per_latent: how many pixels high and wide one latent cell is.
    size_multiple: canvas widths and heights must be multiples of this many pixels.
    guidance_downscale: the latent's height divided by that of the guidance grid.
    """

    pixels_per_latent: int
    size_multiple: int
    guidance_downscale: int

    def latent_size(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of latents for a canvas in pixels."""
        return height // self.pixels_per_latent, width // self.pixels_per_latent

    def guidance_cells(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of the guidance grid for a canvas in pixels."""
        pixels = self.pixels_per_latent * self.guidance_downscale
        return height // pixels, width // pixels

    def check_layout(self, layout: Layout, base: str) -> None:
        """Raise InputError when `base` cannot make `layout`: its size, or a region without a cell.

        A mask that cannot be read, or is of another shape than the canvas, is told too.
        """
        multiple = self.size_multiple
        if layout.width % multiple or layout.height % multiple:
            raise InputError(
                f"layout {layout.name}: {layout.width} x {layout.height} pixels; {base} needs "
                f"multiples of {multiple}"
            )
        rows, columns = self.guidance_cells(layout.width, layout.height)
        with within("", f"layout {layout.name}"):
            check_areas(layout)
        areas = areas_of(layout.regions)
        visible = cells_of_areas(areas, rows, columns)
        for number, (region, area) in enumerate(zip(layout.regions, areas, strict=True), 1):
            if visible[number - 1] is not None:
                continue
            grid = f"of the {columns} x {rows} guidance grid"
            if own_cells(area, rows, columns) is not None:
                said = f"regions of less depth hold every cell {grid} that it has: move it"
            elif region.box:
                said = f"box {list(region.box)} holds no whole cell {grid}: make it larger"
            else:
                said = f"it covers no cell {grid} by half: make it larger"
            raise InputError(f"layout {layout.name}, region {number}: {said}")

    def check_training(self, width: int, height: int, base: str) -> None:
        """Raise InputError for images of a size that `base` cannot be trained at."""
        for side, pixels in (("width", width), ("height", height)):
            if pixels % self.size_multiple:
                raise InputError(
                    f"model.{side}={pixels}: must be a multiple of {self.size_multiple} for {base}"
                )
