"""Both solvers find the weights that serve every concept's inputs best."""

import pytest
import torch
from torch import Tensor

from toolkit.config import FusionSolver
from toolkit.fusion.closed_form import gram, solve_closed_form
from toolkit.fusion.solver import SOLVERS


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def solved(solver: FusionSolver, weight: Tensor, own: list[Tensor], rows: list[Tensor]) -> Tensor:
    found = SOLVERS[solver]
    kept = [found.gather(found.gather(None, x[:3]), x[3:]) for x in rows]
    return found.solve(weight, own, kept, 100, 0.0)


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


def test_a_ridge_keeps_the_fused_weights_near_the_base_where_hardly_an_input_tells() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 12, generator=generator)
    own = [weight + 0.1 * torch.randn(6, 12, generator=generator) for _ in range(2)]
    few = torch.randn(4, 12, generator=generator)  # inputs that are all but of four directions
    rows = [
        torch.randn(50, 4, generator=generator) @ few
        + 1e-4 * torch.randn(50, 12, generator=generator)
        for _ in range(2)
    ]
    grams = [gram(x) for x in rows]
    exact, held = (solve_closed_form(weight, own, grams, ridge) for ridge in (0.0, 1e-5))

    def loss(fused: torch.Tensor) -> float:
        wrong = [x @ (fused - w).T for x, w in zip(rows, own, strict=True)]
        return float(torch.cat(wrong).square().mean())

    largest = max(float((w - weight).norm()) for w in own)
    assert (exact - weight).norm() > 2 * largest > (held - weight).norm()
    assert loss(exact) < loss(held) < 1.2 * loss(exact) < loss(weight)
