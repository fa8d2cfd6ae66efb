"""Frozen diffusion models: what concepts are learned on and composed with."""

from toolkit.backbones.protocol import Backbone, Conditioning, Passes
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.layerwise import CrossAttentionMaps
from toolkit.backbones.unet.load import load_base
from toolkit.backbones.unet.names import Part
from toolkit.backbones.unet.text import TokenisedPrompt

__all__ = [
    "Backbone",
    "Base",
    "Conditioning",
    "CrossAttentionMaps",
    "Part",
    "Passes",
    "TokenisedPrompt",
    "load_base",
]
