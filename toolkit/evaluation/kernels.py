"""Operations that launch work on a device, counted: what a fast GPU waits for."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_NO_LAUNCH = {
    "_local_scalar_dense",  # Tensor.item()
    "_reshape_alias",
    "_unsafe_view",
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "lift_fresh",
    "new_empty",
    "new_empty_strided",
    "scalar_tensor",
    "unsafe_chunk",
    "unsafe_split",
    "unsafe_split_with_sizes",
}


class KernelCounter(TorchDispatchMode):
    """Counts, by name, the operations that launch work: no views, allocations or scalar copies.

    An operation counts once, however many launches a library makes of it. What is computed from
    nothing but `host` tensors, such as a scheduler's sigmas, never reaches the device.
    device: count only what touches a tensor on a device of its type; None counts all.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        super().__init__()
        self.device = device
        self.counts: Counter[str] = Counter()
        self._host: dict[int, torch.UntypedStorage] = {}

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def keep_on_host(self, tensor: Tensor) -> None:
        """Take `tensor`, and all that is computed from such tensors alone, for the host's."""
        storage = tensor.untyped_storage()
        self._host[storage._cdata] = storage  # kept, so that no other storage takes its number

    def _is_on_host(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._host

    def _reaches(self, given: Sequence[Tensor], result: Any) -> bool:
        touched = [*given, *(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))]
        return self.device is None or any(t.device.type == self.device.type for t in touched)

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if given and all(map(self._is_on_host, given)):
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    self.keep_on_host(leaf)
        elif launches(func, given) and self._reaches(given, result):
            self.counts[func.overloadpacket.__name__] += 1
        return result


def launches(func: torch._ops.OpOverload, given: Sequence[Tensor]) -> bool:
    """Whether `func`, called with the tensors `given`, gives a device something to compute."""
    name = func.overloadpacket.__name__
    if func.namespace != "aten" or name in _NO_LAUNCH:
        return func.namespace != "aten" and func.namespace != "prim"
    if func.is_view or torch.Tag.inplace_view in func.tags:
        return False
    return not (name == "_to_copy" and given[0].ndim == 0)
