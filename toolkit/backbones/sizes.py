"""What canvases a base can make: told by its configuration, before anything is loaded."""

from dataclasses import dataclass

from toolkit.errors import InputError
from toolkit.layout.cells import cells_of
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
        """Raise InputError when `base` cannot make `layout`: its size, or a box without a cell."""
        multiple = self.size_multiple
        if layout.width % multiple or layout.height % multiple:
            raise InputError(
                f"layout {layout.name}: {layout.width} x {layout.height} pixels; {base} needs "
                f"multiples of {multiple}"
            )
        rows, columns = self.guidance_cells(layout.width, layout.height)
        for number, region in enumerate(layout.regions, 1):
            if cells_of(region.box, rows, columns) is None:
                raise InputError(
                    f"layout {layout.name}, region {number}: box {list(region.box)} holds no whole "
                    f"cell of the {columns} x {rows} guidance grid: make it larger"
                )

    def check_training(self, width: int, height: int, base: str) -> None:
        """Raise InputError for images of a size that `base` cannot be trained at."""
        for side, pixels in (("width", width), ("height", height)):
            if pixels % self.size_multiple:
                raise InputError(
                    f"model.{side}={pixels}: must be a multiple of {self.size_multiple} for {base}"
                )
