"""Short identities of a base: which architecture it has, and which weights."""

import hashlib
from functools import partial

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from toolkit.backbones.unet.configuration import architecture_of
from toolkit.backbones.unet.stored_weights import HEAD


def architecture_fingerprint(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    text_encoder_2: CLIPTextModelWithProjection | None = None,
) -> str:
    """16 hex digits that are equal for bases whose LoRAs have the same shapes."""
    configs = [network.config for network in (text_encoder, text_encoder_2) if network is not None]
    return architecture_of(
        unet.config.__getitem__, *(partial(getattr, config) for config in configs)
    )


def weights_fingerprint(*modules: nn.Module) -> str:
    """16 hex digits of the first 64 values of every tensor of `modules`, in their order.

    The values are taken as float16, so a base has one fingerprint whether it was loaded in float16
    or in float32.
    """
    digest = hashlib.sha256()
    for module in modules:
        for _, tensor in sorted(module.state_dict().items()):
            head = tensor.flatten()[:HEAD].to("cpu", torch.float16)
            digest.update(head.numpy().tobytes())
    return digest.hexdigest()[:16]
