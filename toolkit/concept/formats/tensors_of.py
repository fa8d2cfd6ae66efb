"""A change of one map as other programs keep it, by what they call each tensor behind its name."""

from collections.abc import Callable

import torch
from torch import Tensor

from toolkit.backbones.differences import Difference, Multiplied, Rescaled
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange, Together
from toolkit.backbones.products import Hadamard, Kronecker

Shaped = Callable[[Tensor], Tensor]
"""Half of a low-rank change, or a magnitude, as the base has the map: with a kernel, or without."""


class HasNoPlace(ValueError):
    """A kind of change that a format cannot hold; the message names it."""


def for_kohya(change: MapChange, shaped: Shaped) -> dict[str, Tensor]:
    """As kohya's tools keep a LoRA, and LyCORIS every other kind."""
    match change:
        case Together(parts):
            return {name: own for part in parts for name, own in for_kohya(part, shaped).items()}
        case LowRank(down, up):
            halves = {
                "lora_down.weight": shaped(down),
                "lora_up.weight": _outputs(up, down, shaped),
            }
            return halves | {"alpha": torch.tensor(float(len(down)))}
        case Hadamard(first, second):
            made = {
                "hada_w1_a": first.up,
                "hada_w1_b": first.down.flatten(1),
                "hada_w2_a": second.up,
                "hada_w2_b": second.down.flatten(1),
            }
            return made | {"alpha": torch.tensor(float(first.rank))}
        case Kronecker(outer, LowRank(down, up)):
            inner = {"lokr_w2_a": up, "lokr_w2_b": down.flatten(1)}
            return {"lokr_w1": outer, **inner, "alpha": torch.tensor(float(len(down)))}
        case Kronecker():
            return change.tensors | {"alpha": torch.tensor(1.0)}
        case Difference(Tensor(ndim=1)):
            return {name.replace("diff_b", "b_norm").replace("diff", "w_norm"): own
                    for name, own in change.tensors.items()}  # fmt: skip
        case Difference():
            return change.tensors
        case Rescaled(direction, magnitude, strength=1.0):
            return for_kohya(direction, shaped) | {
                "dora_scale": _like(magnitude, direction, shaped)
            }
        case Multiplied(less_one, on_input, with_bias=False):
            return {"weight": less_one, "on_input": torch.tensor(int(on_input))}
    raise HasNoPlace(
        "(IA)^3 that multiplies biases" if isinstance(change, Multiplied) else "a change"
    )


def for_diffusers(change: MapChange, shaped: Shaped) -> dict[str, Tensor]:
    """As diffusers and PEFT keep a LoRA, also of convolutions, and a DoRA of outputs."""
    match change:
        case LowRank(down, up):
            return {"lora_A.weight": shaped(down), "lora_B.weight": _outputs(up, down, shaped)}
        case Rescaled(
            LowRank(down, _) as direction, Tensor(shape=(_, 1)) as magnitude, strength=1.0
        ):
            vector = magnitude[:, 0]
            if shaped(down).ndim == 4:
                vector = vector[None, :, None, None]
            return for_diffusers(direction, shaped) | {"lora_magnitude_vector": vector}
    raise HasNoPlace("changes of other kinds than LoRA and DoRA")


def _outputs(up: Tensor, down: Tensor, shaped: Shaped) -> Tensor:
    return up[:, :, None, None] if down.ndim == 4 else shaped(up)


def _like(magnitude: Tensor, direction: MapChange, shaped: Shaped) -> Tensor:
    """A magnitude with as many sides as the weight that it belongs to."""
    has_kernel = any(own.ndim == 4 for own in direction.tensors.values())
    return magnitude[:, :, None, None] if has_kernel else shaped(magnitude)
