"""The matrices that a file holds of one map, as products: LoRA and LoCon, LoHa, LoKr.

Each reader takes what it reads out of `found`, the tensors by their role (`Key`), and gives None
where there is none of its kind. own: the shape of the base's weight. where: for messages.
All raise InputError when a matrix is missing, or of sides that do not fit the others.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones.differences import Difference
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange, together
from toolkit.backbones.products import Hadamard, Kronecker
from toolkit.concept.formats.scale import AdapterScale
from toolkit.errors import InputError

Found = dict[str, Tensor]


@dataclass(frozen=True)
class Scale:
    """What the products of one map are multiplied with.

    alpha: the file's own, one number. told: what PEFT's or diffusers' settings say, of `module`.
    """

    alpha: Tensor | None
    told: AdapterScale = AdapterScale()
    module: str = ""

    def of(self, rank: int | None) -> float:
        """rank: of the factors; None where none of them is of low rank (LoKr)."""
        if self.alpha is None:
            return self.told.of(self.module, rank)
        return 1.0 if rank is None else float(self.alpha) / rank

    @property
    def is_nothing(self) -> bool:
        return self.of(1) == 0


def read_low_rank(found: Found, scale: Scale, where: str) -> MapChange | None:
    """A LoRA, of a convolution with its kernel, perhaps with a core tensor or a bias."""
    down, up, core, bias = taken(found, "down", "up", "mid", "up_bias")
    if down is None and up is None and core is None:
        if bias is not None:
            raise InputError(f"{where} has the bias of a LoRA, and no LoRA")
        return None
    if down is None or up is None:
        raise InputError(f"{where} lacks one half of its LoRA")
    down, up = _sides(down, where, kernel=True), _sides(up, where)
    if core is not None:
        down = _with_core(core, down, where)
    if down.shape[0] != up.shape[1]:
        raise InputError(
            f"{where}: the halves are {tuple(down.shape)} and {tuple(up.shape)}, which do not fit "
            "each other"
        )
    factor = scale.of(len(down))
    pair = LowRank(down.float(), up.float() * factor)
    return pair if bias is None else together([pair, Difference(None, bias.float() * factor)])


def read_hadamard(found: Found, own: tuple[int, ...], scale: Scale, where: str) -> Hadamard | None:
    """A LoHa, perhaps with core tensors."""
    roles = [f"hada_w{number}_{side}" for number in (1, 2) for side in "ab"]
    first_core, second_core = taken(found, "hada_t1", "hada_t2")
    matrices = [tensor for tensor in taken(found, *roles) if tensor is not None]
    if not matrices and first_core is None and second_core is None:
        return None
    if len(matrices) < len(roles):
        raise InputError(f"{where} lacks one of the matrices of its LoHa")
    first = _product(matrices[0], matrices[1], first_core, own[1:], where)
    second = _product(matrices[2], matrices[3], second_core, own[1:], where)
    if first.shape != second.shape:
        raise InputError(f"{where}: the matrices of its LoHa do not fit each other")
    return Hadamard(first.scaled(scale.of(first.rank)), second)


def read_kronecker(
    found: Found, own: tuple[int, ...], scale: Scale, where: str
) -> Kronecker | None:
    """A LoKr, of which each matrix may be a product, and the second one have a core tensor."""
    outer, outer_up, outer_down = taken(found, "lokr_w1", "lokr_w1_a", "lokr_w1_b")
    inner, up, down, core = taken(found, "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
    if all(t is None for t in (outer, outer_up, outer_down, inner, up, down, core)):
        return None
    rank = None
    if outer_up is not None and outer_down is not None:
        rank = len(outer_down)
        outer = _product(outer_up, outer_down, None, (), where).matrix
    if outer is None or (inner is None and (up is None or down is None)):
        raise InputError(f"{where} lacks one of the matrices of its LoKr")
    outer = _sides(outer, where).float()
    if inner is not None:
        return Kronecker(outer * scale.of(rank), _sides(inner, where, kernel=True).float())
    assert up is not None and down is not None
    columns = own[1] // outer.shape[1] if len(own) > 1 else 0
    second = _product(up, down, core, (columns, *own[2:]), where)
    return Kronecker(outer * scale.of(second.rank), second)


def taken(found: Found, *roles: str) -> list[Tensor | None]:
    """The tensors of some roles, out of `found`; None where one is not there."""
    return [found.pop(role, None) for role in roles]


def _product(
    up: Tensor, down: Tensor, core: Tensor | None, own: tuple[int, ...], where: str
) -> LowRank:
    """Two matrices as a product; own: the inputs, and the kernel of a convolution, of it.

    With a core tensor (Tucker) the first is turned round: (rank, out).
    """
    if up.ndim != 2 or down.ndim != 2 or 0 in (*up.shape, *down.shape):
        raise _misfit(where, up, down)
    if core is not None:
        up, down = up.T.contiguous(), _with_core(core, down, where)
    if up.shape[1] != down.shape[0]:
        raise _misfit(where, up, down)
    down = down.float()
    if down.ndim == 2 and len(own) > 1 and own[1:] != (1, 1):
        if down.shape[1] != torch.Size(own).numel():
            raise _misfit(where, up, down)
        down = down.unflatten(1, own)
    return LowRank(down, up.float())


def _with_core(core: Tensor, down: Tensor, where: str) -> Tensor:
    """(rank, rank, height, width) times (rank, in): a kernel of (rank, in, height, width)."""
    if core.ndim != 4 or down.ndim != 2 or core.shape[1] != down.shape[0]:
        raise _misfit(where, core, down)
    return torch.einsum("abhw,bi->aihw", core.float(), down.float())


def _sides(tensor: Tensor, where: str, kernel: bool = False) -> Tensor:
    """(out, in), from a map or a convolution of 1 x 1; with a kernel where there may be one."""
    if tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        tensor = tensor[:, :, 0, 0]
    if (tensor.ndim != 2 and not (kernel and tensor.ndim == 4)) or 0 in tensor.shape:
        raise InputError(f"{where} has the shape {tuple(tensor.shape)}, not two sides")
    return tensor


def _misfit(where: str, *matrices: Tensor) -> InputError:
    shapes = " and ".join(str(tuple(matrix.shape)) for matrix in matrices)
    return InputError(f"{where}: its matrices {shapes} do not fit each other")
