"""What a file holds of one map, as a change of it: any kind, and several kinds at once."""

from torch import Tensor, nn

from toolkit.backbones.differences import Difference, Multiplied, Rescaled
from toolkit.backbones.map_change import MapChange, together
from toolkit.concept.formats.matrices import (
    Found,
    Scale,
    read_hadamard,
    read_kronecker,
    read_low_rank,
    taken,
)
from toolkit.errors import InputError


def change_of_map(found: Found, module: nn.Module, scale: Scale, where: str) -> MapChange:
    """The sum of all kinds of changes that a file holds of one map.

    found: tensors by their role, as `Key` has them; what is read is taken out. module: the base's
    map. where: for messages.
    Raises InputError when a tensor is missing, left over, or of sides that do not fit.
    """
    own = tuple(module.weight.shape)  # type: ignore[union-attr,arg-type,operator]
    found.pop("alpha", None)
    products = (
        read_low_rank(found, scale, where),
        read_hadamard(found, own, scale, where),
        read_kronecker(found, own, scale, where),
    )
    whole = [product for product in products if product is not None]
    difference = _difference(found, module, where)
    if difference.of_weight is not None:
        whole.append(Difference(difference.of_weight))
    magnitude = _magnitude(found, where)
    if magnitude is not None:
        if not whole:
            raise InputError(f"{where} has a magnitude (DoRA), and nothing to rescale")
        whole = [Rescaled(together(whole), magnitude)]
    if difference.of_bias is not None:
        whole.append(Difference(None, difference.of_bias))
    whole += _multiplied(found, scale)
    if found:
        raise InputError(f"{where} has {next(iter(found))} without what belongs to it")
    if not whole:
        raise InputError(f"{where} has alpha, and nothing to scale")
    return together(whole)


def _difference(found: Found, module: nn.Module, where: str) -> Difference:
    """diff and diff_b; of norms w_norm and b_norm; or whole biases, as PEFT keeps them."""
    weight, of_norm = taken(found, "diff", "w_norm")
    bias, of_norm_bias, whole = taken(found, "diff_b", "b_norm", "bias")
    weight = of_norm if weight is None else weight
    bias = of_norm_bias if bias is None else bias
    if whole is not None:
        own: Tensor | None = module.bias  # type: ignore[assignment]
        if own is None or own.shape != whole.shape:
            raise InputError(f"{where} has a bias, and the base's has none like it")
        bias = whole.float() - own.detach().float().cpu()
    return Difference(*(None if part is None else part.float() for part in (weight, bias)))


def _magnitude(found: Found, where: str) -> Tensor | None:
    """(out, 1) or (1, in)."""
    scale, vector = taken(found, "dora_scale", "magnitude")
    if vector is not None:  # PEFT's is of the outputs, however many sides it has
        return vector.float().reshape(-1, 1)
    if scale is None:
        return None
    sides = scale.shape[:2] if scale.ndim > 1 else (scale.numel(), 1)
    if scale.numel() != sides[0] * sides[1]:
        raise InputError(f"{where}: its magnitude has the shape {tuple(scale.shape)}")
    return scale.float().reshape(sides)


def _multiplied(found: Found, scale: Scale) -> list[MapChange]:
    """LyCORIS's factors are kept less 1; PEFT's as they are, and the bias is multiplied too."""
    by_peft = found.pop("ia3_l", None)
    if by_peft is not None:
        by_input = scale.told.multiplies_input(scale.module)
        if by_peft.ndim == 2 and by_peft.shape[0] != by_peft.shape[1]:
            by_input = len(by_peft) == 1
        return [Multiplied(by_peft.float().flatten() - 1, by_input, not by_input)]
    if not {"weight", "on_input"} <= found.keys():
        return []
    factors, on_input = found.pop("weight"), found.pop("on_input")
    return [Multiplied(factors.float().flatten(), bool(on_input.any()))]
