"""The constraints of LoRA-Composer: attention maps and boxes in, losses out.

Where the released sampler differs from the paper, both formulas are here; `published` and `paper`
in the names say which. Shapes: h x w is the guidance grid.
"""

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.layout.cells import Cells


def smooth(attention: Tensor) -> Tensor:
    """(n, h, w) maps blurred with a 3 x 3 kernel, exp(-((i - 1) / (2 * 0.5))^2) along each axis.

    Published; the paper does not mention it. Borders are reflected.
    """
    offsets = torch.arange(3, device=attention.device, dtype=attention.dtype) - 1
    line = torch.exp(-(offsets**2))
    kernel = torch.outer(line, line)
    padded = functional.pad(attention[:, None], (1, 1, 1, 1), mode="reflect")
    return functional.conv2d(padded, (kernel / kernel.sum())[None, None])[:, 0]


def gaussian_weight(height: int, width: int, device: torch.device) -> Tensor:
    """(height, width): G of eq. 4, a Gaussian of sigma 1 over -1..1 each way of the box.

    Its peak is 1, whether or not a cell lies at the very centre.
    """
    y = torch.linspace(-1, 1, height, device=device)
    x = torch.linspace(-1, 1, width, device=device)
    weight = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)
    return weight / weight.max()


def top_count(cells: Cells, share: float) -> int:
    """S (and P): floor of `share` of the box's cells, at least 1."""
    return max(int(share * len(cells)), 1)


def enhancement_loss(attention: Tensor, cells: Cells, weight: Tensor | None, top: int) -> Tensor:
    """How far each token is from holding its box: 1 - mean of the top S of A * M * G (eq. 4).

    attention: (tokens, h, w) cross-attention probabilities of one concept's tokens.
    weight: (box rows, box columns), the Gaussian, or None.
    Returns (tokens,), each in 0..1.
    """
    inside = attention[:, cells.top : cells.bottom, cells.left : cells.right]
    if weight is not None:
        inside = inside * weight
    return 1 - inside.flatten(1).topk(top).values.mean(dim=1)


def fill_loss_published(attention: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """How far each token is from reaching every column and every row of its box.

    A is masked first; the distance is averaged over the whole axis.
    attention: (tokens, h, w). mask: (h, w), 1 in the box.
    Returns the distances along x and along y, each (tokens,) in 0..1.
    """
    inside = attention * mask
    columns = (mask.amax(dim=0) - inside.amax(dim=1)).abs().mean(dim=1)
    rows = (mask.amax(dim=1) - inside.amax(dim=2)).abs().mean(dim=1)
    return columns, rows


def fill_loss_paper(attention: Tensor, cells: Cells) -> Tensor:
    """L_fill (eqs. 5 to 7): maxima over the whole map, cut to the box, one mean over both axes.

    attention: (tokens, h, w). Returns (tokens,), each in 0..1.
    """
    columns = attention.amax(dim=1)[:, cells.left : cells.right]
    rows = attention.amax(dim=2)[:, cells.top : cells.bottom]
    return (1 - torch.cat([columns, rows], dim=1)).mean(dim=1)


def region_loss(self_attention: Tensor, mask: Tensor, top: int) -> Tensor:
    """Mean of the top P of the self-attention from inside the box to outside it (eq. 8).

    self_attention: (h * w queries, h * w keys) probabilities.
    mask: (h, w), 1 in the box. Returns a scalar in 0..1; 0 for a box that fills the canvas.
    """
    inside = mask.flatten().bool()
    leaking = self_attention[inside][:, ~inside].flatten()
    if leaking.numel() == 0:
        return self_attention.new_zeros(())
    return leaking.topk(min(top, leaking.numel())).values.mean()
