"""Frozen diffusion models: what concepts are learned on and composed with."""

from toolkit.backbones.unet.base import Base, load_base
from toolkit.backbones.unet.conditioning import Conditioning
from toolkit.backbones.unet.passes import Passes

__all__ = ["Base", "Conditioning", "Passes", "load_base"]
