"""Soft edges: how an area begins to act from its edge inwards."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def softened(inside: "NDArray[np.bool_]", feather: float) -> "NDArray[np.float32]":
    """(rows, columns): 0 outside, and inside a line up from 0 at the edge to 1 at `feather` of it.

    feather: a fraction of the shorter side. The distance is that of a cell's middle from the edge
    of the nearest cell outside, in cells, which are square; the canvas's own border is no edge, and
    a feather of half a cell or less changes nothing.
    """
    import numpy as np

    if inside.all():
        return np.ones(inside.shape, dtype=np.float32)
    cells = feather * min(inside.shape)
    return np.clip((distances(inside) - 0.5) / cells, 0, 1).astype(np.float32)


def distances(inside: "NDArray[np.bool_]") -> "NDArray[np.float64]":
    """(rows, columns): how far the nearest cell outside is, from middle to middle; 0 outside.

    The square of a distance is that along the rows plus that along the columns, so the least of it
    is found first in each column and then across the columns.
    """
    import numpy as np

    rows, columns = (np.arange(size, dtype=float) for size in inside.shape)
    apart_down = (rows[:, None] - rows[None, :]) ** 2
    down = np.stack(
        [
            apart_down[:, ~column].min(axis=1, initial=np.inf)
            for column in inside.T  # a column without a cell outside is infinitely far from one
        ],
        axis=1,
    )
    apart_across = (columns[:, None] - columns[None, :]) ** 2
    return np.sqrt((down[:, None, :] + apart_across[None]).min(axis=2))
