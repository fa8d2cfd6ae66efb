"""Cross-attention in which transformer i hears encoding i (P+, arXiv 2303.09522)."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from toolkit.backbones.unet.sites import AttentionLayer


@dataclass
class CrossAttentionMaps:
    """Collects cross-attention probabilities at one resolution during a pass with gradients.

    downscale: which layers are read: those whose map is the latent's height over this, the last
        block of each transformer.
    maps: for each such layer, (batch, cells, places), averaged over heads.
    """

    downscale: int
    maps: list[Tensor] = field(default_factory=list)

    def mean(self) -> Tensor:
        """(batch, cells, places), averaged over layers."""
        return torch.stack(self.maps).mean(dim=0)

    def size(self, latents: Tensor) -> tuple[int, int]:
        """Rows and columns of the maps, for (batch, channels, h, w) latents."""
        height, width = latents.shape[2:]
        return math.ceil(height / self.downscale), math.ceil(width / self.downscale)

    def forget(self) -> None:
        """Call it before a pass: gradient checkpointing recorded once more in the last backward."""
        self.maps.clear()


@contextmanager
def layerwise_cross_attention(
    unet: UNet2DConditionModel,
    layers: Sequence[AttentionLayer],
    recorder: CrossAttentionMaps | None = None,
) -> Iterator[None]:
    """Let the U-Net take encodings of (batch, transformers, places, dim), one for each of them.

    Encodings of (batch, places, dim), which all layers share, still work. The block must span the
    backward pass too: gradient checkpointing runs the layers again there.
    """
    attentions: list[Attention] = [unet.get_submodule(layer.cross_attention) for layer in layers]
    before = [attention.processor for attention in attentions]
    try:
        for layer, attention in zip(layers, attentions, strict=True):
            there = recorder is not None and recorder.downscale == layer.downscale
            reads = there and layer.last
            attention.processor = LayerwiseProcessor(layer.transformer, recorder if reads else None)
        yield
    finally:
        for attention, processor in zip(attentions, before, strict=True):
            attention.processor = processor


class LayerwiseProcessor(AttnProcessor2_0):  # type: ignore[misc]
    """diffusers' fused attention, on the encoding of this layer's transformer."""

    def __init__(self, transformer: int, recorder: CrossAttentionMaps | None = None) -> None:
        super().__init__()
        self.transformer = transformer
        self.recorder = recorder

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """(batch, cells, channels) to the same shape; diffusers fixes the argument names."""
        encoding = encoder_hidden_states
        if encoding.ndim == 4:
            encoding = encoding[:, self.transformer]
        if self.recorder is not None and torch.is_grad_enabled():
            self.recorder.maps.append(_probabilities(attn, hidden_states, encoding))
        output: Tensor = super().__call__(attn, hidden_states, encoding, attention_mask, temb)
        return output


def _probabilities(attn: Attention, hidden_states: Tensor, encoding: Tensor) -> Tensor:
    """(batch, cells, places) attention probabilities, averaged over heads."""
    query = attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    key = attn.to_k(encoding).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    scores = (query * attn.scale) @ key.transpose(-1, -2)
    return scores.softmax(dim=-1, dtype=torch.float32).mean(dim=1)
