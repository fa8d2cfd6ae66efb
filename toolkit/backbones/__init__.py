"""Frozen diffusion models: what concepts are learned on and composed with.

Each name is loaded when it is first asked for: what a base's files say needs no torch.
"""

from typing import TYPE_CHECKING

from toolkit.lazy import loader

if TYPE_CHECKING:
    from toolkit.backbones.protocol import Backbone as Backbone
    from toolkit.backbones.protocol import Conditioning as Conditioning
    from toolkit.backbones.protocol import Passes as Passes
    from toolkit.backbones.trained import Place as Place
    from toolkit.backbones.trained import TrainedMap as TrainedMap
    from toolkit.backbones.unet.base import Base as Base
    from toolkit.backbones.unet.layerwise import CrossAttentionMaps as CrossAttentionMaps
    from toolkit.backbones.unet.load import load_base as load_base
    from toolkit.backbones.unet.names import Part as Part
    from toolkit.backbones.unet.text import Encodings as Encodings
    from toolkit.backbones.unet.text import TokenisedPrompt as TokenisedPrompt

_NAMES = {
    "toolkit.backbones.protocol": ("Backbone", "Conditioning", "Passes"),
    "toolkit.backbones.trained": ("Place", "TrainedMap"),
    "toolkit.backbones.unet.base": ("Base",),
    "toolkit.backbones.unet.layerwise": ("CrossAttentionMaps",),
    "toolkit.backbones.unet.load": ("load_base",),
    "toolkit.backbones.unet.names": ("Part",),
    "toolkit.backbones.unet.text": ("Encodings", "TokenisedPrompt"),
}

__all__ = sorted(name for held in _NAMES.values() for name in held)
__getattr__ = loader(__name__, _NAMES)
