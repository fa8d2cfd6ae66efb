"""The attention layers of a Stable Diffusion U-Net, in the order that ED-LoRA counts them."""

import math
import re
from dataclasses import dataclass, replace

from diffusers import UNet2DConditionModel


@dataclass(frozen=True)
class AttentionLayer:
    """One transformer block's pair of attentions.

    name: module path of the transformer block inside the U-Net.
    downscale: the latent's height divided by the height of this layer's feature map.
    heads: of its attentions.
    transformer: which of the U-Net's transformers it is a block of, counted in the same order. The
        blocks of one transformer share a concept's embeddings, and so hear the same encoding.
    last: whether no block of its transformer follows.
    """

    name: str
    downscale: int
    heads: int
    transformer: int = 0
    last: bool = True

    @property
    def self_attention(self) -> str:
        return f"{self.name}.attn1"

    @property
    def cross_attention(self) -> str:
        return f"{self.name}.attn2"

    @property
    def keys_of_text(self) -> str:
        """The linear map that makes cross-attention's keys of the text."""
        return f"{self.cross_attention}.to_k"

    def map_size(self, latent_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of this layer's feature map, for a latent's."""
        height, width = latent_size
        return math.ceil(height / self.downscale), math.ceil(width / self.downscale)


def attention_layers(unet: UNet2DConditionModel) -> list[AttentionLayer]:
    """All transformer blocks: down blocks, then mid, then up (P+, arXiv 2303.09522).

    This is also the order in which a forward pass meets them. Stable Diffusion 1.x and 2.x have 16
    transformers of one block, Stable Diffusion XL 11 of 2 or 10.
    """
    levels = len(unet.config.block_out_channels)
    found: list[tuple[tuple[int, ...], AttentionLayer]] = []
    for name, attention in unet.named_modules():
        if not name.endswith(".attn2"):
            continue
        block = name.removesuffix(".attn2")
        numbers = tuple(int(number) for number in re.findall(r"\.(\d+)(?=\.|$)", block))
        if block.startswith("down_blocks."):
            stage, downscale = 0, 2 ** numbers[0]
        elif block.startswith("mid_block."):
            stage, downscale = 1, 2 ** (levels - 1)
        else:
            stage, downscale = 2, 2 ** (levels - 1 - numbers[0])
        found.append(((stage, *numbers), AttentionLayer(block, downscale, int(attention.heads))))
    blocks = [layer for _, layer in sorted(found, key=lambda item: item[0])]
    owners = [transformer_of(layer.name) for layer in blocks]
    transformers = list(dict.fromkeys(owners))
    return [
        replace(layer, transformer=transformers.index(owner), last=owner not in owners[n + 1 :])
        for n, (layer, owner) in enumerate(zip(blocks, owners, strict=True))
    ]


def transformer_of(path: str) -> str:
    """The transformer that a block, or what is in one, belongs to."""
    return path.partition(".transformer_blocks")[0]


def map_size_of(path: str, levels: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the feature map that a map of the U-Net gives.

    path: of any map but those of the timestep. levels: of the U-Net.
    """
    height, width = latent_size
    downscale = 2 ** _level_of(path, levels)
    return math.ceil(height / downscale), math.ceil(width / downscale)


def _level_of(path: str, levels: int) -> int:
    """How often what a map gives is halved."""
    block, _, rest = path.partition(".")
    if block == "mid_block":
        return levels - 1
    if block == "down_blocks":
        return int(rest.partition(".")[0]) + (".downsamplers." in path)
    if block == "up_blocks":
        return levels - 1 - int(rest.partition(".")[0]) - (".upsamplers." in path)
    return 0
