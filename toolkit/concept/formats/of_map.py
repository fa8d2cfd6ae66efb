"""What a file holds of one map, as a change of it: any kind, and several kinds at once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from toolkit.backbones.differences import Difference, Multiplied, Rescaled
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange, together
from toolkit.backbones.products import Hadamard, Kronecker
from toolkit.concept.formats.scale import AdapterScale
from toolkit.errors import InputError


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


@dataclass(frozen=True)
class MapTensors:
    """What a file holds of one map.

    by_role: as `Key` has them; what is read is taken out. module: the base's map. where: for
    messages.
    """

    by_role: dict[str, Tensor]
    module: nn.Module
    scale: Scale
    where: str

    def change(self) -> MapChange:
        """The sum of all kinds of changes that it holds.

        Raises InputError when a tensor is missing, left over, or of sides that do not fit.
        """
        self.by_role.pop("alpha", None)
        whole = [c for c in (self._low_rank(), self._hadamard(), self._kronecker()) if c]
        difference = self._whole_difference()
        if difference.of_weight is not None:
            whole.append(Difference(difference.of_weight))
        magnitude = self._magnitude()
        if magnitude is not None:
            if not whole:
                raise InputError(f"{self.where} has a magnitude (DoRA), and nothing to rescale")
            whole = [Rescaled(together(whole), magnitude)]
        if difference.of_bias is not None:
            whole.append(Difference(None, difference.of_bias))
        whole += self._multiplied()
        if self.by_role:
            raise InputError(
                f"{self.where} has {next(iter(self.by_role))} without what belongs to it"
            )
        if not whole:
            raise InputError(f"{self.where} has alpha, and nothing to scale")
        return together(whole)

    @property
    def _own(self) -> tuple[int, ...]:
        """The shape of the base's weight."""
        shape: tuple[int, ...] = tuple(self.module.weight.shape)  # type: ignore[union-attr,arg-type,operator]
        return shape

    def _take(self, *roles: str) -> list[Tensor | None]:
        return [self.by_role.pop(role, None) for role in roles]

    def _low_rank(self) -> MapChange | None:
        down, up, mid, bias = self._take("down", "up", "mid", "up_bias")
        if down is None and up is None and mid is None:
            return None
        if down is None or up is None:
            raise InputError(f"{self.where} lacks one half of its LoRA")
        down, up = self._sides(down, kernel=True), self._sides(up)
        if down.shape[0] != up.shape[1] and mid is None:
            raise InputError(
                f"{self.where}: the halves are {tuple(down.shape)} and {tuple(up.shape)}, which do "
                "not fit each other"
            )
        if mid is not None:
            down = self._with_core(mid, down)
        scale = self.scale.of(len(down))
        pair = LowRank(down.float(), up.float() * scale)
        return pair if bias is None else together([pair, Difference(None, bias.float() * scale)])

    def _hadamard(self) -> Hadamard | None:
        roles = [f"hada_w{number}_{side}" for number in (1, 2) for side in "ab"]
        first_core, second_core = self._take("hada_t1", "hada_t2")
        found = [tensor for tensor in self._take(*roles) if tensor is not None]
        if not found:
            return None
        if len(found) < len(roles):
            raise InputError(f"{self.where} lacks one of the matrices of its LoHa")
        first = self._product(found[0], found[1], first_core, self._own[1:])
        second = self._product(found[2], found[3], second_core, self._own[1:])
        if first.shape != second.shape:
            raise InputError(f"{self.where}: the matrices of its LoHa do not fit each other")
        return Hadamard(first.scaled(self.scale.of(first.rank)), second)

    def _kronecker(self) -> Kronecker | None:
        outer, outer_up, outer_down = self._take("lokr_w1", "lokr_w1_a", "lokr_w1_b")
        inner, inner_up, inner_down, core = self._take(
            "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"
        )
        if all(t is None for t in (outer, outer_up, outer_down, inner, inner_up, inner_down)):
            return None
        rank = None
        if outer_up is not None and outer_down is not None:
            rank, outer = len(outer_down), self._product(outer_up, outer_down, None, ()).matrix
        second: Tensor | LowRank | None = (
            None if inner is None else self._sides(inner, kernel=True).float()
        )
        if outer is not None and inner_up is not None and inner_down is not None:
            own = (self._own[1] // outer.shape[1], *self._own[2:])
            second = self._product(inner_up, inner_down, core, own)
            rank = second.rank
        if outer is None or outer.ndim != 2 or second is None:
            raise InputError(f"{self.where} lacks one of the matrices of its LoKr")
        return Kronecker(outer.float() * self.scale.of(rank), second)

    def _whole_difference(self) -> Difference:
        """diff and diff_b; of norms w_norm and b_norm; or whole biases, as PEFT keeps them."""
        weight, of_norm = self._take("diff", "w_norm")
        bias, of_norm_bias, whole = self._take("diff_b", "b_norm", "bias")
        weight = of_norm if weight is None else weight
        bias = of_norm_bias if bias is None else bias
        if whole is not None:
            own: Tensor | None = self.module.bias  # type: ignore[assignment]
            if own is None or own.shape != whole.shape:
                raise InputError(f"{self.where} has a bias, and the base's has none like it")
            bias = whole.float() - own.detach().float().cpu()
        return Difference(*(None if part is None else part.float() for part in (weight, bias)))

    def _magnitude(self) -> Tensor | None:
        """(out, 1) or (1, in)."""
        scale, vector = self._take("dora_scale", "magnitude")
        if vector is not None:  # PEFT's is of the outputs, however many sides it has
            return vector.float().reshape(-1, 1)
        if scale is None:
            return None
        sides = scale.shape[:2] if scale.ndim > 1 else (len(scale), 1)
        if scale.numel() != sides[0] * sides[1]:
            raise InputError(f"{self.where}: its magnitude has the shape {tuple(scale.shape)}")
        return scale.float().reshape(sides)

    def _multiplied(self) -> list[MapChange]:
        """LyCORIS's factors are kept less 1; PEFT's as they are, and the bias is multiplied too."""
        factors, on_input, by_peft = self._take("weight", "on_input", "ia3_l")
        if by_peft is not None:
            by_input = self.scale.told.multiplies_input(self.scale.module)
            if by_peft.ndim == 2 and by_peft.shape[0] != by_peft.shape[1]:
                by_input = len(by_peft) == 1
            return [Multiplied(by_peft.float().flatten() - 1, by_input, not by_input)]
        if factors is None or on_input is None:
            if on_input is not None:
                self.by_role["on_input"] = on_input
            return []
        return [Multiplied(factors.float().flatten(), bool(on_input.any()))]

    def _product(
        self, up: Tensor, down: Tensor, core: Tensor | None, own: tuple[int, ...]
    ) -> LowRank:
        """Two matrices as a product; own: the inputs, and the kernel of a convolution, of it.

        With a core tensor (Tucker) the first is turned round: (rank, out).
        """
        if up.ndim != 2 or down.ndim != 2 or 0 in (*up.shape, *down.shape):
            raise self._misfit(up, down)
        if core is not None:
            return LowRank(self._with_core(core, down), up.float().T.contiguous())
        if up.shape[1] != down.shape[0]:
            raise self._misfit(up, down)
        down = down.float()
        if len(own) > 1 and own[1:] != (1, 1) and down.shape[1] == torch.Size(own).numel():
            down = down.unflatten(1, own)
        return LowRank(down, up.float())

    def _misfit(self, *matrices: Tensor) -> InputError:
        shapes = " and ".join(str(tuple(matrix.shape)) for matrix in matrices)
        return InputError(f"{self.where}: its matrices {shapes} do not fit each other")

    def _with_core(self, core: Tensor, down: Tensor) -> Tensor:
        """(rank, rank, height, width) times (rank, in): a kernel of (rank, in, height, width)."""
        if core.ndim != 4 or down.ndim != 2 or core.shape[1] != down.shape[0]:
            raise InputError(
                f"{self.where}: its core {tuple(core.shape)} does not fit its matrices"
            )
        return torch.einsum("abhw,bi->aihw", core.float(), down.float())

    def _sides(self, tensor: Tensor, kernel: bool = False) -> Tensor:
        """(out, in), from a map or a convolution of 1 x 1; with a kernel where there may be one."""
        if tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
            tensor = tensor[:, :, 0, 0]
        if (tensor.ndim != 2 and not (kernel and tensor.ndim == 4)) or 0 in tensor.shape:
            raise InputError(f"{self.where} has the shape {tuple(tensor.shape)}, not two sides")
        return tensor
