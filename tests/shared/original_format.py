"""Single files in Stable Diffusion's own format, from diffusers' folders: the names of its code."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]

_RESNET = (
    ("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"), ("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection"),
)  # fmt: skip
_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
_OPEN_CLIP = (
    ("encoder.layers.", "transformer.resblocks."), ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
    ("self_attn", "attn"), ("final_layer_norm", "ln_final"),
    ("embeddings.token_embedding", "token_embedding"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
)  # fmt: skip


def write_single_file(folder: Path, file: Path, markers: Sequence[str] = ()) -> Path:
    """The model in a diffusers folder as one file; markers: names of further, empty tensors."""
    tensors = {
        f"model.diffusion_model.{name}": tensor
        for name, tensor in _unet(_weights(folder / "unet")).items()
    }
    tensors |= {
        f"first_stage_model.{name}": tensor
        for name, tensor in _vae(_weights(folder / "vae")).items()
    }
    text = _weights(folder / "text_encoder")
    if (folder / "text_encoder_2").is_dir():
        first = "conditioner.embedders.0.transformer.text_model."
        tensors |= {first + name.removeprefix("text_model."): part for name, part in text.items()}
        second = _open_clip(_weights(folder / "text_encoder_2"))
        tensors |= {f"conditioner.embedders.1.model.{name}": part for name, part in second.items()}
    else:
        tensors |= {f"cond_stage_model.model.{n}": part for n, part in _open_clip(text).items()}
    tensors |= {marker: torch.zeros(0) for marker in markers}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def _weights(folder: Path) -> Tensors:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def _unet(tensors: Tensors) -> Tensors:
    """Blocks are counted in one list, two layers and what changes the size in each level."""
    heard = {name.split(".")[1] for name in tensors if re.match(r"up_blocks\.\d+\.att", name)}
    found = {}
    for name, tensor in tensors.items():
        module, _, last = name.rpartition(".")
        if module in _OUTSIDE:
            found[f"{_OUTSIDE[module]}.{last}"] = tensor
            continue
        match = re.match(r"(down|up|mid)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.*)", name)
        assert match is not None, name
        half, block, kind, number, rest = match.groups()
        layer = int(number)
        if kind == "resnets":
            for ours, theirs in _RESNET:
                rest = rest.replace(ours, theirs)
        place = 0 if kind == "resnets" else 1
        if half == "mid":
            at = f"middle_block.{2 * layer if kind == 'resnets' else 1}"
        elif kind == "downsamplers":
            at, rest = f"input_blocks.{3 * int(block) + 3}.0", rest.replace("conv", "op")
        elif kind == "upsamplers":
            at = f"output_blocks.{3 * int(block) + 2}.{2 if block in heard else 1}"
        elif half == "down":
            at = f"input_blocks.{3 * int(block) + 1 + layer}.{place}"
        else:
            at = f"output_blocks.{3 * int(block) + layer}.{place}"
        found[f"{at}.{rest}"] = tensor
    return found


def _vae(tensors: Tensors) -> Tensors:
    """The decoder's levels are counted from the other end; its attention is convolutions."""
    levels = 1 + max(int(n) for name in tensors for n in re.findall(r"up_blocks\.(\d+)", name))
    attention = {
        "group_norm": "norm",
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "to_out.0": "proj_out",
    }
    found = {}
    for name, tensor in tensors.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", new)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        for ours, theirs in (("resnets", "block"), ("upsamplers.0", "upsample")):
            new = re.sub(
                rf"up_blocks\.(\d+)\.{re.escape(ours)}",
                lambda match, theirs=theirs: f"up.{levels - 1 - int(match[1])}.{theirs}",
                new,
            )
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        if "mid_block.attentions.0" in new:
            for ours, theirs in attention.items():
                new = new.replace(f"attentions.0.{ours}.", f"attentions.0.{theirs}.")
            new = new.replace("mid_block.attentions.0", "mid.attn_1")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        found[new] = tensor
    return found


def _open_clip(tensors: Tensors) -> Tensors:
    """q, k and v are one map; the projection is the other way round."""
    found = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("text_model.")
        for ours, theirs in _OPEN_CLIP:
            name = name.replace(ours, theirs)
        if name == "text_projection.weight":
            found["text_projection"] = tensor.T
            continue
        match = re.fullmatch(r"(.*\.attn)\.([qkv])_proj\.(weight|bias)", name)
        if match is None:
            found[name] = tensor
        elif match[2] == "q":
            others = [name.replace("q_proj", f"{other}_proj") for other in "kv"]
            parts = [tensor] + [
                next(part for own, part in tensors.items() if _ends(own, other)) for other in others
            ]
            found[f"{match[1]}.in_proj_{match[3]}"] = torch.cat(parts)
    return found


def _ends(name: str, other: str) -> bool:
    """Whether a name of diffusers is what `other` was made of."""
    layer, _, rest = other.removeprefix("transformer.resblocks.").partition(".attn.")
    return name.endswith(f"encoder.layers.{layer}.self_attn.{rest}")
