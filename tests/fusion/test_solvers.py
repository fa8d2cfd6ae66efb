"""Both solvers find the weights that serve every concept's inputs best."""

import pytest
import torch
from torch import Tensor

from toolkit.config import FusionSolver
from toolkit.fusion.solver import SOLVERS


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def solved(solver: FusionSolver, weight: Tensor, own: list[Tensor], rows: list[Tensor]) -> Tensor:
    found = SOLVERS[solver]
    kept = [found.gather(found.gather(None, x[:3]), x[3:]) for x in rows]
    return found.solve(weight, own, kept, 100)


@pytest.mark.parametrize("solver", FusionSolver)
def test_least_squares_over_all_concepts_rows(solver: FusionSolver) -> None:
    weight, own = drawn(3, 5), [drawn(3, 5) + 1, drawn(3, 5) - 1]
    rows = [drawn(20, 5), drawn(30, 5)]
    targets = torch.cat([x @ w.T for x, w in zip(rows, own, strict=True)])
    expected = torch.linalg.lstsq(torch.cat(rows), targets).solution.T
    assert torch.allclose(solved(solver, weight, own, rows), expected, atol=1e-3)


@pytest.mark.parametrize("solver", FusionSolver)
def test_what_no_concept_looks_at_stays_as_the_base_has_it(solver: FusionSolver) -> None:
    weight, own, rows = drawn(4, 8), [drawn(4, 8) + 2], [drawn(6, 8)]
    rows[0][:, 5:] = 0
    fused = solved(solver, weight, own, rows)
    assert torch.allclose(rows[0] @ fused.T, rows[0] @ own[0].T, atol=1e-3)
    assert torch.allclose(fused[:, 5:], weight[:, 5:], atol=1e-5)
