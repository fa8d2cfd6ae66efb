"""How much memory tensors take at most while something is computed, on any device."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorMemory(TorchDispatchMode):
    """Follows every tensor that operations return, until its memory is given back.

    peak: bytes of those at most together. What was there before is not in it, and neither is what
    an operation takes inside itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._live: set[int] = set()

    def leave_out(self, tensor: Tensor) -> None:
        """Do not count `tensor`, which was there before."""
        self._live.add(tensor.untyped_storage()._cdata)

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._live:
            return
        self._live.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._given_back, key, size)

    def _given_back(self, key: int, size: int) -> None:
        self._live.discard(key)
        self._now -= size
