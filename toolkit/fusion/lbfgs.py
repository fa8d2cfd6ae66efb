"""The published solver of one linear map: L-BFGS on all rows, which must be in memory."""

import torch
from torch import Tensor

_CHUNK = 5000  # rows at once, as published: the same mean, in less memory


def solve_lbfgs(weight: Tensor, inputs: Tensor, targets: Tensor, iterations: int) -> Tensor:
    """(out, in): the W with the least mean (W x - y)^2 of all that L-BFGS tries from `weight`.

    inputs: (rows, in). targets: (rows, out). Settings are Mix-of-Show's.
    """
    moving = weight.float().clone().requires_grad_(True)
    best, least = weight.float().clone(), float("inf")
    optimiser = torch.optim.LBFGS(
        [moving],
        lr=1,
        max_iter=iterations,
        tolerance_grad=1e-16,
        tolerance_change=1e-16,
        history_size=25,
        line_search_fn="strong_wolfe",
    )

    def loss() -> float:
        nonlocal best, least
        optimiser.zero_grad()
        value = 0.0
        for x, y in zip(inputs.split(_CHUNK), targets.split(_CHUNK), strict=True):
            part = (x @ moving.T - y).square().sum() / targets.numel()
            part.backward()
            value += float(part.detach())
        if value < least:
            best, least = moving.detach().clone(), value
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return best.to(weight.dtype)
