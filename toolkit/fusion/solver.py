"""The two ways to solve one linear map, behind one door: what they keep, and what they make of it.

The fused weight is W = argmin mean (W x - y)^2 over all inputs x of all concepts, y = W_c x being
what concept c's own weights give.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.config.schema import FusionSolver
from toolkit.fusion.closed_form import gram, solve_closed_form
from toolkit.fusion.lbfgs import solve_lbfgs


@dataclass(frozen=True)
class Solver:
    """What is kept of a map's inputs, and how the map is solved.

    gather: of what was kept before, if anything, and new rows (n, in): what is kept now.
    solve: of the base's weight, each concept's own, what was kept of each concept's inputs, the
        most iterations, and the ridge: the fused weight, (out, in).
    """

    gather: Callable[[Tensor | None, Tensor], Tensor]
    solve: Callable[[Tensor, Sequence[Tensor], Sequence[Tensor], int, float], Tensor]


def _add_gram(before: Tensor | None, rows: Tensor) -> Tensor:
    return gram(rows) if before is None else before + gram(rows)


def _add_rows(before: Tensor | None, rows: Tensor) -> Tensor:
    rows = rows.to("cpu", copy=True)  # too many for a GPU
    return rows if before is None else torch.cat([before, rows])


def _closed_form(
    weight: Tensor, own: Sequence[Tensor], grams: Sequence[Tensor], iterations: int, ridge: float
) -> Tensor:
    return solve_closed_form(weight, own, grams, ridge)


def _lbfgs(
    weight: Tensor, own: Sequence[Tensor], rows: Sequence[Tensor], iterations: int, ridge: float
) -> Tensor:
    targets = torch.cat([x @ w.T for x, w in zip(rows, own, strict=True)])
    return solve_lbfgs(weight, torch.cat(list(rows)), targets, iterations)


SOLVERS = {
    FusionSolver.CLOSED_FORM: Solver(_add_gram, _closed_form),
    FusionSolver.LBFGS: Solver(_add_rows, _lbfgs),
}
