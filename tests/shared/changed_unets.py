"""U-Nets that other libraries have changed, and the files that these write of it."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from lycoris import create_lycoris
from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from torch import nn

MAPS = (
    "conv_in",
    "conv_out",
    "down_blocks.0.downsamplers.0.conv",
    "up_blocks.0.upsamplers.0.conv",
    "down_blocks.1.resnets.0.conv1",
    "down_blocks.1.resnets.0.conv2",
    "down_blocks.1.resnets.0.conv_shortcut",
    "down_blocks.1.resnets.0.time_emb_proj",
    "time_embedding.linear_1",
    "down_blocks.1.attentions.0.proj_in",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2",
)
"""One of each kind of map that formats change; Stable Diffusion 1.x and XL have them all."""

NORMS = (
    "down_blocks.1.resnets.0.norm1",
    "down_blocks.1.attentions.0.norm",
    "down_blocks.1.attentions.0.transformer_blocks.0.norm3",
)

PEFT: dict[str, Any] = {
    "lora": LoraConfig(r=4, lora_alpha=8, init_lora_weights=False),
    "dora": LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, use_dora=True),
    "loha": LoHaConfig(r=4, alpha=8, init_weights=False),
    "loha_cp": LoHaConfig(r=4, alpha=8, init_weights=False, use_effective_conv2d=True),
    "lokr": LoKrConfig(r=4, alpha=8, init_weights=False),
    "lokr_cp": LoKrConfig(r=2, alpha=8, init_weights=False, use_effective_conv2d=True),
    "lokr_factored": LoKrConfig(r=1, alpha=2, init_weights=False, decompose_both=True),
    "ia3": IA3Config(init_ia3_weights=False, feedforward_modules=["ff.net.0.proj", "conv2"]),
}

LYCORIS: dict[str, dict[str, Any]] = {
    "locon": {"algo": "locon"},
    "locon_cp": {"algo": "locon", "use_tucker": True},
    "dora": {"algo": "locon", "dora_wd": True},
    "dora_of_inputs": {"algo": "locon", "dora_wd": True, "wd_on_output": False},
    "loha": {"algo": "loha"},
    "loha_cp": {"algo": "loha", "use_tucker": True},
    "loha_dora": {"algo": "loha", "dora_wd": True},
    "lokr": {"algo": "lokr", "factor": 4},
    "lokr_cp": {"algo": "lokr", "factor": 4, "linear_dim": 1, "use_tucker": True},
    "lokr_full": {"algo": "lokr", "full_matrix": True},
    "lokr_dora": {"algo": "lokr", "dora_wd": True},
    "full": {"algo": "full", "train_norm": True},
    "ia3": {"algo": "ia3"},
}


def by_peft(unet: nn.Module, kind: str, folder: Path) -> tuple[nn.Module, Path]:
    """A copy of the U-Net under PEFT's adapter on MAPS, and the file of it."""
    torch.manual_seed(7)
    config = copy.deepcopy(PEFT[kind])
    config.target_modules = list(MAPS)
    model = get_peft_model(copy.deepcopy(unet), config)
    for name, weight in model.named_parameters():
        if "magnitude" in name or "ia3_l" in name:
            weight.data *= 1 + 0.3 * torch.rand_like(weight)
    model.save_pretrained(folder)
    return model.base_model.model, folder / "adapter_model.safetensors"


def by_lycoris(unet: nn.Module, kind: str, folder: Path) -> tuple[nn.Module, Path]:
    """A copy of the U-Net under LyCORIS's modules on MAPS, and the file of it, in kohya's names."""
    return _by_lycoris(unet, LYCORIS[kind], folder, [*MAPS, *NORMS], "lora_unet")


def text_by_lycoris(encoder: nn.Module, kind: str, folder: Path) -> tuple[nn.Module, Path]:
    """The same of a text encoder that is the only one of its base."""
    layer = "text_model.encoder.layers.0"
    if not any(name.startswith("text_model.") for name, _ in encoder.named_modules()):
        layer = layer.removeprefix("text_model.")
    maps = [f"{layer}.{end}" for end in ("self_attn.q_proj", "mlp.fc1", "mlp.fc2", "layer_norm1")]
    prefix = "lora_te" if layer.startswith("text_model.") else "lora_te_text_model"
    return _by_lycoris(encoder, LYCORIS[kind], folder, maps, prefix)


def _by_lycoris(
    network: nn.Module, how: dict[str, Any], folder: Path, maps: list[str], prefix: str
) -> tuple[nn.Module, Path]:
    torch.manual_seed(7)
    changed = copy.deepcopy(network)
    preset = folder / "preset.toml"
    preset.write_text(
        f'target_module = []\ntarget_name = {json.dumps(maps)}\nlora_prefix = "{prefix}"\n'
    )
    settings = {"linear_dim": 4, "linear_alpha": 2.0, "conv_dim": 4, "conv_alpha": 2.0}
    lycoris = create_lycoris(changed, 1.0, preset=str(preset), **settings | how)
    lycoris.apply_to()
    for name, weight in lycoris.named_parameters():
        if "dora_scale" in name:
            weight.data *= 1 + 0.3 * torch.rand_like(weight)
        else:
            weight.data += 0.2 * torch.randn_like(weight)
    file = folder / "lycoris.safetensors"
    lycoris.save_weights(str(file), torch.float32, None)
    return changed, file
