"""What a map that a concept changes is called: here, in concept files, and by other programs.

Here it is called by its part of the base and its module's path in that network. The text encoder's
paths have no `text_model.` in front, whichever way the installed transformers names them; files
always have it.
"""

import re
from enum import StrEnum

from toolkit.backbones.unet.numbered import numbered


class Part(StrEnum):
    """Which network a change belongs to."""

    UNET = "unet"
    TEXT_ENCODER = "text_encoder"
    TEXT_ENCODER_2 = "text_encoder_2"

    @property
    def said(self) -> str:
        """Its name in a message."""
        return self.replace("_", " ")


TEXT_PARTS = (Part.TEXT_ENCODER, Part.TEXT_ENCODER_2)
"""The text encoders, in the order in which their encodings stand side by side."""

_TEXT_PROJECTION = "text_projection"
"""A map of the second text encoder that stands beside its `text_model`, not in it."""


def module_name(part: Part, path: str) -> str:
    """A map's name inside its network, as files have it."""
    return path if part is Part.UNET or path == _TEXT_PROJECTION else f"text_model.{path}"


def stored_name(part: Part, path: str) -> str:
    """A map's name in concept files, and in diffusers' LoRAs."""
    return f"{part}.{module_name(part, path)}"


def kohya_name(part: Part, path: str, two_text_encoders: bool) -> str:
    """A map's name in the LoRAs of kohya's tools, which have no dots.

    two_text_encoders: for Stable Diffusion XL, whose blocks they call by their first numbers.
    """
    flat = module_name(part, path).replace(".", "_")
    if part is Part.UNET:
        return f"lora_unet_{numbered(flat) if two_text_encoders else flat}"
    if part is Part.TEXT_ENCODER_2:
        return f"lora_te2_{flat}"
    return f"lora_te1_{flat}" if two_text_encoders else f"lora_te_{flat}"


def path_of(module: str) -> str:
    """The path that is meant by a map's name inside its network, also by an older diffusers'."""
    path = module.removeprefix("text_model.").replace(".processor.", ".")
    return re.sub(r"\.to_out$", ".to_out.0", path)


def is_convolution(path: str, linear_projections: bool) -> bool:
    """Whether a map is a convolution of 1 x 1.

    linear_projections: those around attention are linear maps, as in Stable Diffusion 2.x and XL.
    """
    around_attention = path.endswith((".proj_in", ".proj_out")) and not linear_projections
    return around_attention or path.endswith(".conv_shortcut")


def hears_timestep(path: str) -> bool:
    """Whether a map of the U-Net is given the timestep, or the size of a picture, and no cells."""
    return path.startswith(("time_embedding.", "add_embedding.")) or path.endswith(".time_emb_proj")


_OF_TRANSFORMERS = re.compile(r".*\.(attn[12]\..+|ff\..+|proj_in|proj_out)")


def is_of_transformers(path: str) -> bool:
    """Whether a map of the U-Net is one of attention, feed-forward, or the projections around them.

    Those are what the usual LoRAs change; formats that change other maps carry more than attention.
    """
    return _OF_TRANSFORMERS.fullmatch(path) is not None
