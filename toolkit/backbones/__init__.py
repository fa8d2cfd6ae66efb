"""The frozen diffusion model that every concept is learned on and composed with."""

from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.load import load_base

__all__ = ["Base", "load_base"]
