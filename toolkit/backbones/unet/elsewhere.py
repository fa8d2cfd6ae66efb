"""What LoRAs change outside attention (feed-forward, projections), each inside its own box.

ED-LoRAs change attention only, so the paper has no such part; most LoRAs that people share do.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from toolkit.backbones import Base
from toolkit.backbones.unet.conditioning import is_elsewhere
from toolkit.backbones.unet.share import Share
from toolkit.layout.cells import cover_of
from toolkit.methods.method import Method


@contextmanager
def changes_elsewhere(
    base: Base, shares: Sequence[Share], method: Method, latent_size: tuple[int, int]
) -> Iterator[None]:
    """Let those changes act for the length of the block: a background's where no box is.

    Where boxes overlap, their mean acts, as in cross-attention.
    """
    paths = _changed(shares)
    layers = base.layers if paths else []
    sizes = {
        layer.name.partition(".transformer_blocks")[0]: layer.map_size(latent_size)
        for layer in layers
    }
    handles = []
    try:
        for path in paths:
            block = path.partition(".transformer_blocks")[0]
            size = sizes[block if block in sizes else path.rpartition(".")[0]]
            hook = _hook(path, shares, method, size)
            handles.append(base.unet.get_submodule(path).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _changed(shares: Sequence[Share]) -> list[str]:
    paths: dict[str, None] = {}
    for share in shares:
        paths |= dict.fromkeys(filter(is_elsewhere, share.conditioning.background))
        for region in share.conditioning.regions:
            paths |= dict.fromkeys(region.elsewhere)
    return list(paths)


def _hook(path: str, shares: Sequence[Share], method: Method, size: tuple[int, int]):  # type: ignore[no-untyped-def]
    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        is_convolution = output.ndim == 4
        x = inputs[0].permute(0, 2, 3, 1) if is_convolution else inputs[0].unflatten(1, size)
        change = output.new_zeros(*x.shape[:-1], output.shape[1 if is_convolution else -1])
        for share in shares:
            _add_share(change[share.rows], x[share.rows], path, share, method)
        return output + (change.permute(0, 3, 1, 2) if is_convolution else change.flatten(1, 2))

    return add


def _add_share(change: Tensor, x: Tensor, path: str, share: Share, method: Method) -> None:
    """Add one layout's changes to `change`, in place; both (rows, height, width, ...)."""
    height, width = x.shape[1:3]
    boxes = share.boxes(height, width) if method.injection else []
    cover = cover_of([cells for _, cells in boxes], x.new_zeros(height, width))
    behind = share.conditioning.background.get(path)
    if behind is not None:
        change += behind(x) * (cover == 0).to(x.dtype)[..., None]
    for index, cells in boxes:
        inside = share.conditioning.regions[index].elsewhere.get(path)
        if inside is not None:
            rows, columns = slice(cells.top, cells.bottom), slice(cells.left, cells.right)
            change[:, rows, columns] += (
                inside(x[:, rows, columns]) / cover[rows, columns][..., None]
            )
