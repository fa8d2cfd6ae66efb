"""Pictures in another size: by a filter, or by a network that was trained to enlarge them."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from toolkit.concept.formats.files import read_tensors
from toolkit.errors import InputError, one_line


def resized(pixels: Tensor, width: int, height: int) -> Tensor:
    """(3, height, width) in 0..1 by a bicubic filter, which is widened where it makes smaller."""
    if pixels.shape[1:] == (height, width):
        return pixels
    found = functional.interpolate(
        pixels[None], (height, width), mode="bicubic", align_corners=False, antialias=True
    )
    return found[0].clamp(0, 1)


@torch.no_grad()
def enlarged_by(network: Path, pixels: Tensor, device: torch.device) -> Tensor:
    """(3, s height, s width) in 0..1, with the network's own scale s.

    Raises InputError for a file that is no such network.
    """
    found: Tensor = load_network(network, device)(pixels[None].to(device))
    return found[0].float().clamp(0, 1).cpu()


@lru_cache(maxsize=1)
def load_network(path: Path, device: torch.device) -> Any:
    """The network that a file holds, read as tensors: spandrel itself would run TorchScript.

    Raises InputError for a file that is none.
    """
    from spandrel import ImageModelDescriptor, ModelLoader, canonicalize_state_dict

    tensors, _ = read_tensors(path)
    try:
        found = ModelLoader(device=device).load_from_state_dict(canonicalize_state_dict(tensors))
    except Exception as error:  # what a stranger's file makes of it is not foreseen
        raise InputError(f"sampling.upscaler={path}: cannot be read ({one_line(error)})") from error
    if not isinstance(found, ImageModelDescriptor) or found.input_channels != 3:
        raise InputError(f"sampling.upscaler={path}: holds no network that enlarges pictures")
    return found.eval()
