"""Short identities of a base: which architecture it has, and which weights."""

import hashlib
import json

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

_UNET_KEYS = (
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "down_block_types",
    "up_block_types",
    "attention_head_dim",
)
_TEXT_KEYS = ("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")


def architecture_fingerprint(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> str:
    """16 hex digits that are equal for bases whose LoRAs have the same shapes."""
    facts = {key: unet.config[key] for key in _UNET_KEYS}
    facts |= {key: getattr(text_encoder.config, key) for key in _TEXT_KEYS}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def weights_fingerprint(*modules: nn.Module) -> str:
    """16 hex digits of the first 64 values of every tensor of `modules`, in their order.

    The values are taken as float16, so a base has one fingerprint whether it was loaded in float16
    or in float32.
    """
    digest = hashlib.sha256()
    for module in modules:
        for _, tensor in sorted(module.state_dict().items()):
            head = tensor.flatten()[:64].to("cpu", torch.float16)
            digest.update(head.numpy().tobytes())
    return digest.hexdigest()[:16]
