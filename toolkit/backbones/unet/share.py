"""Which rows of a batch belong to which layout."""

from dataclasses import dataclass

from toolkit.backbones.unet.conditioning import Conditioning
from toolkit.layout.cells import Cells, cells_of


@dataclass(frozen=True)
class Share:
    """The rows of a batch that belong to one layout: for each side in turn, each of its seeds.

    sides: which encodings the rows use: (POSITIVE,) in the guidance pass, (NEGATIVE, POSITIVE) in
    a denoising pass.
    """

    conditioning: Conditioning
    rows: slice
    sides: tuple[str, ...]

    def boxes(self, height: int, width: int) -> list[tuple[int, Cells]]:
        """Index and cells of each region that holds a whole cell of the map."""
        found = enumerate(self.cells(height, width))
        return [(index, cells) for index, cells in found if cells is not None]

    def cells(self, height: int, width: int) -> tuple[Cells | None, ...]:
        """The cells of every region; None for one that holds no whole cell of the map."""
        return tuple(cells_of(region.box, height, width) for region in self.conditioning.regions)
