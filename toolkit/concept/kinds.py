"""Changes of a map out of the tensors that a concept file has of it: `MapChange.tensors` back."""

from collections.abc import Mapping

from torch import Tensor

from toolkit.backbones.differences import Difference, Multiplied, Rescaled
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange, together
from toolkit.backbones.products import Hadamard, Kronecker


class NoChange(ValueError):
    """Tensors that are none, or not all, of a change; the message says so of the map."""


def change_of(tensors: Mapping[str, Tensor]) -> MapChange:
    """The change of one map that these tensors are, by what files call them behind its name.

    Raises NoChange for an unknown name, a tensor without those that belong to it, or sides that do
    not fit.
    """
    left = dict(tensors)
    products = [made for made in (_low_rank(left), _hadamard(left), _kronecker(left)) if made]
    difference = Difference(left.pop("diff", None), left.pop("diff_b", None))
    whole: list[MapChange] = [*products]
    if difference.of_weight is not None:
        whole.append(Difference(difference.of_weight))
    if "dora_scale" in left:
        if not whole:
            raise NoChange("has a magnitude (dora_scale) without the change that it belongs to")
        whole = [Rescaled(together(whole), left.pop("dora_scale"))]
    if difference.of_bias is not None:
        whole.append(Difference(None, difference.of_bias))
    whole += _multiplied(left)
    if left:
        raise NoChange(f"has an unknown tensor, {next(iter(left))}")
    return together(whole)


def _low_rank(tensors: dict[str, Tensor]) -> LowRank | None:
    down, up = (tensors.pop(f"lora_{side}.weight", None) for side in "AB")
    if down is None and up is None:
        return None
    if down is None or up is None or not _is_product(up, down):
        raise NoChange("is not a matching pair of lora_A and lora_B")
    return LowRank(down, up)


def _hadamard(tensors: dict[str, Tensor]) -> Hadamard | None:
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    parts = [tensors.pop(name, None) for name in names]
    if not any(part is not None for part in parts):
        return None
    first_up, first, second_up, second = parts
    if first_up is None or first is None or second_up is None or second is None:
        raise NoChange(f"lacks one of {', '.join(names)}")
    if not (_is_product(first_up, first) and _is_product(second_up, second)):
        raise NoChange("has matrices of LoHa that do not fit each other")
    made = Hadamard(LowRank(first, first_up), LowRank(second, second_up))
    if made.first.shape != made.second.shape:
        raise NoChange("has matrices of LoHa that do not fit each other")
    return made


def _kronecker(tensors: dict[str, Tensor]) -> Kronecker | None:
    first, second, up, down = (
        tensors.pop(name, None) for name in ("lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
    )
    if all(part is None for part in (first, second, up, down)):
        return None
    whole = second is not None and up is None and down is None and second.ndim in (2, 4)
    product = second is None and up is not None and down is not None and _is_product(up, down)
    if first is None or first.ndim != 2 or not (whole or product):
        raise NoChange("lacks one of the matrices of LoKr, or has some that do not fit")
    if whole:
        assert second is not None
        return Kronecker(first, second)
    assert up is not None and down is not None
    return Kronecker(first, LowRank(down, up))


def _multiplied(tensors: dict[str, Tensor]) -> list[MapChange]:
    kinds = {
        "ia3_input": {"on_input": True},
        "ia3_output": {"with_bias": True},
        "ia3_output_weight": {},
    }
    found: list[MapChange] = []
    for name, how in kinds.items():
        if name in tensors:
            factors = tensors.pop(name)
            if factors.ndim != 1:
                raise NoChange(f"has factors of (IA)^3 of the shape {tuple(factors.shape)}")
            found.append(Multiplied(factors, **how))
    return found


def _is_product(up: Tensor, down: Tensor) -> bool:
    """Whether `up` times `down` is one: (out, rank) and (rank, in), with a kernel or without."""
    return up.ndim == 2 and down.ndim in (2, 4) and up.shape[1] == down.shape[0] > 0
