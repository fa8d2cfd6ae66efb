"""Any DINOv2 through transformers: it sees whose face it is, where CLIP sees a face."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModel, PretrainedConfig
from transformers.image_processing_base import ImageProcessingMixin

from toolkit.backbones.source import offline_copy
from toolkit.errors import InputError, one_line
from toolkit.evaluation.pixels import CPU, batch_of, embedded

_KINDS = ("dinov2", "dinov2_with_registers")
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def is_dinov2(name: str, path: str) -> bool:
    """Whether a folder or hub id is a DINOv2 by its config.

    name: what was asked for. Raises InputError when it is nowhere.
    """
    if not Path(path).exists():
        offline_copy(path, f"judge={name}: {path} is no folder here", "config.json")
    try:
        config, _ = PretrainedConfig.get_config_dict(path)
    except (OSError, ValueError):  # told by who loads it
        return name == "dinov2"
    return config.get("model_type") in _KINDS


class Dinov2Judge:
    """Similarities of DINOv2's class token; it reads no text."""

    tells_presence = True
    tells_collapse = True

    def __init__(self, name: str, path: str, device: torch.device = CPU) -> None:
        """Load a folder or hub id; InputError when there is no DINOv2."""
        self.name = name
        self.device = device
        try:
            model = AutoModel.from_pretrained(path, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise InputError(
                f"judge={name}: cannot load the DINOv2 {path}: {one_line(error)}"
            ) from error
        self.model = model.eval().requires_grad_(False).to(device)
        self.shown = _preprocessing(path)

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, dim) embeddings of unit length of RGB pictures of any size."""
        return embedded(
            pictures,
            lambda some: batch_of(some, **self.shown),
            lambda pixels: self.model(pixel_values=pixels).last_hidden_state[:, 0],
            self.device,
        )

    def texts(self, texts: Sequence[str]) -> Tensor | None:
        """None: it knows no words."""
        return None


def _preprocessing(path: str) -> dict[str, Any]:
    """How a checkpoint wants pictures; where it does not say, as DINOv2's authors have it."""
    try:
        said, _ = ImageProcessingMixin.get_image_processor_dict(path)
    except (OSError, ValueError):
        said = {}
    return {
        "shorter": int((said.get("size") or {}).get("shortest_edge", 256)),
        "side": int((said.get("crop_size") or {}).get("height", 224)),
        "mean": said.get("image_mean") or _MEAN,
        "deviation": said.get("image_std") or _DEVIATION,
    }
