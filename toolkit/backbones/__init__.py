"""The frozen diffusion model that every concept is learned on and composed with."""

from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.layerwise import CrossAttentionMaps
from toolkit.backbones.unet.load import load_base
from toolkit.backbones.unet.names import Part
from toolkit.backbones.unet.text import TokenisedPrompt

__all__ = ["Base", "CrossAttentionMaps", "Part", "TokenisedPrompt", "load_base"]
