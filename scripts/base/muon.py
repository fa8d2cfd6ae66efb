"""Muon for matrices and convolutions, all weights of one shape at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# Jordan et al. 2024: a quintic whose iterates drive all singular values to about one.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, rounds: int = 5) -> Tensor:
    """The nearest matrices whose singular values are about one; (n, rows, columns)."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, scaled to the size of an AdamW update (0.2 in the mean square).

    torch's own takes matrices only and one at a time; here convolutions count as matrices of
    (out, in x kernel), and weights of one shape share each product.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        """params: weights of two or more dimensions."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for weights in by_shape.values():
                self._move(weights, group["lr"], group["momentum"], group["weight_decay"])

    def _move(self, weights: list[Tensor], rate: float, momentum: float, decay: float) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        buffers = []
        for weight in weights:
            if "momentum" not in self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
            buffers.append(self.state[weight]["momentum"])
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, buffers, momentum)
        stacked = torch.stack([step.flatten(1) for step in ahead])
        rows, columns = stacked.shape[1:]
        update = orthogonalise(stacked) * (0.2 * max(rows, columns) ** 0.5) * rate
        torch._foreach_mul_(weights, 1 - rate * decay)
        steps = [step.reshape(weight.shape) for step, weight in zip(update, weights, strict=True)]
        torch._foreach_sub_(weights, steps)
