"""The trainable parts of an ED-LoRA (Mix-of-Show, arXiv 2305.18292)."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from toolkit.backbones import Base
from toolkit.concept import Concept, LowRank
from toolkit.errors import InputError

UNET_MAPS = r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)"
TEXT_ENCODER_MAPS = r".*\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"
_ADAPTER = "default"


def token_names(name: str) -> tuple[str, str]:
    """V_rand and V_class of a concept: <dog1>, <dog2>."""
    return f"<{name}1>", f"<{name}2>"


def initial_embeddings(base: Base, class_word: str, generator: torch.Generator) -> Tensor:
    """(2, layers, dim) in float32: V_rand random, V_class the mean of the class word's tokens.

    V_rand is as wide as the base's own embeddings are (a standard deviation of about 0.014 in
    Stable Diffusion, which is Mix-of-Show's constant). Both are the same in every layer.
    Raises InputError when the class word has no tokens.
    """
    table = base.text_encoder.get_input_embeddings().weight.detach().float()
    ids = base.tokenizer(class_word, add_special_tokens=False).input_ids
    if not ids:
        raise InputError("concept.class_word is empty: say what it is, as dog")
    drawn = torch.randn(table.shape[1], generator=generator).to(table.device) * table.std()
    start = torch.stack([drawn, table[ids].mean(dim=0)])
    return start[:, None].repeat(1, len(base.layers), 1)


@contextmanager
def lora_injected(base: Base, rank: int, generator: torch.Generator) -> Iterator[None]:
    """Put a LoRA on all attention maps of text encoder and U-Net, and take it off at the end.

    `lora_alpha == rank`: the low-rank product is added as it is. Its down half starts random (from
    `generator`), its up half at 0. The base's weights are not touched.
    """
    parts = ((base.text_encoder, TEXT_ENCODER_MAPS), (base.unet, UNET_MAPS))
    try:
        for module, maps in parts:
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=maps)
            inject_adapter_in_model(config, module, _ADAPTER)
            for _, layer in lora_layers(module):
                for half in (layer.lora_A, layer.lora_B):
                    half[_ADAPTER].float()  # trained in full precision on a base of any
                down = layer.lora_A[_ADAPTER].weight
                drawn = torch.empty(down.shape)
                nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
                down.data.copy_(drawn)
        yield
    finally:
        for module, _ in parts:
            _take_off(module)


def lora_layers(module: nn.Module) -> list[tuple[str, LoraLayer]]:
    """The injected layers by path, without a leading `text_model.`."""
    return [
        (path.removeprefix("text_model."), layer)
        for path, layer in module.named_modules()
        if isinstance(layer, LoraLayer)
    ]


def low_rank_changes(module: nn.Module) -> dict[str, LowRank]:
    """A copy of what the injected LoRA has learned, by module path."""
    return {
        path: LowRank(
            layer.lora_A[_ADAPTER].weight.detach().clone(),
            layer.lora_B[_ADAPTER].weight.detach().clone(),
        )
        for path, layer in lora_layers(module)
    }


def set_low_rank_changes(
    module: nn.Module, changes: Mapping[str, LowRank], scale: float = 1.0
) -> None:
    """Start the injected LoRA from `changes`; maps that are not in it start at no change.

    Raises InputError when a change fits no injected map.
    """
    layers = dict(lora_layers(module))
    for path in changes:
        if path not in layers:
            raise InputError(f"the LoRA changes {path}, which training does not")
    for path, layer in layers.items():
        down, up = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
        if path not in changes:
            nn.init.zeros_(up)
            continue
        change = changes[path].scaled(scale)
        if change.down.shape != down.shape:
            raise InputError(
                f"the LoRA has rank {len(change.down)} at {path}; training has {len(down)}: "
                f"set training.rank={len(change.down)}"
            )
        down.data.copy_(change.down)
        up.data.copy_(change.up)


def export_concept(
    base: Base, name: str, class_word: str, embeddings: Tensor, training: Mapping[str, str]
) -> Concept:
    """What was learned so far as a Concept, on the CPU. The LoRA must still be injected."""
    cpu, kind = torch.device("cpu"), torch.float32

    def changes(module: nn.Module) -> dict[str, LowRank]:
        return {path: pair.to(cpu, kind) for path, pair in low_rank_changes(module).items()}

    return Concept(
        name=name,
        embeddings=embeddings.detach().to(cpu, kind).clone(),
        token_names=token_names(name),
        unet=changes(base.unet),
        text_encoder=changes(base.text_encoder),
        class_word=class_word,
        base_name=base.name,
        architecture=base.architecture,
        weights=base.weights,
        training=training,
    )


def _take_off(module: nn.Module) -> None:
    for path, layer in list(module.named_modules()):
        if isinstance(layer, LoraLayer):
            parent, _, child = path.rpartition(".")
            setattr(module.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(module, "peft_config"):
        del module.peft_config
