"""The least-squares optimum of one linear map, from sums that are as small as the map."""

from collections.abc import Sequence

import torch
from torch import Tensor

_SMALLEST = 1e-10  # of the largest eigenvalue: below, rounding decides


def gram(rows: Tensor) -> Tensor:
    """(in, in) X^T X in float64, of rows (n, in): all that the closed form needs of them."""
    exact = rows.double()
    return exact.T @ exact


def solve_closed_form(
    weight: Tensor, own: Sequence[Tensor], grams: Sequence[Tensor], ridge: float = 0.0
) -> Tensor:
    """(out, in): the W with the least mean (W x - y)^2, the one nearest to `weight`.

    weight: (out, in), the base's. own: for each concept its W_c, whose outputs y = W_c x are
    wanted. grams: for each concept X^T X of its inputs.

    W = W_0 + (Y^T X - W_0 X^T X) (X^T X)^+, where a concept adds W_c X_c^T X_c to Y^T X.
    ridge: a share of the largest eigenvalue of X^T X that is added to all of them, which holds W to
    W_0 where hardly an input tells otherwise. Without it W is the optimum for these inputs, and
    may be of any size in directions that they hardly have: on the embedded base it changed maps by
    some 100 times what the concepts change them, and pictures were noise.
    """
    start = weight.double()
    residual = torch.stack([(w.double() - start) @ g for w, g in zip(own, grams, strict=True)])
    values, vectors = torch.linalg.eigh(torch.stack(list(grams)).sum(dim=0))
    kept = values > _SMALLEST * values[-1]
    inverse = torch.where(kept, 1 / (values + ridge * values[-1]), 0.0)
    step = (residual.sum(dim=0) @ vectors) * inverse @ vectors.T
    return (start + step).to(weight.dtype)
