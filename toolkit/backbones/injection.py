"""A trainable LoRA on linear maps of a network: put on, read, and taken off again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange
from toolkit.errors import InputError

_ADAPTER = "default"


@contextmanager
def injected(
    networks: Sequence[tuple[nn.Module, str]],
    rank: int,
    generator: torch.Generator,
    ranks: Mapping[str, int] | None = None,
) -> Iterator[None]:
    """Put a LoRA on maps of each network, and take it off at the end.

    networks: each with a pattern of its maps' paths.
    ranks: of maps that have another than `rank`, by a pattern of their paths' ends.
    `lora_alpha` is the rank: the low-rank product is added as it is. Its down half starts random
    (from `generator`), its up half at 0. The networks' weights are not touched.
    """
    try:
        for network, maps in networks:
            own = dict(ranks or {})
            config = LoraConfig(
                r=rank, lora_alpha=rank, target_modules=maps, rank_pattern=own, alpha_pattern=own
            )
            inject_adapter_in_model(config, network, _ADAPTER)
            for _, layer in injected_layers(network):
                for half in (layer.lora_A, layer.lora_B):
                    half[_ADAPTER].float()  # trained in full precision on a base of any
                down = layer.lora_A[_ADAPTER].weight
                drawn = torch.empty(down.shape)
                nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
                down.data.copy_(drawn)
        yield
    finally:
        for network, _ in networks:
            _take_off(network)


def injected_layers(network: nn.Module) -> list[tuple[str, LoraLayer]]:
    """The injected layers by path, without a leading `text_model.`."""
    return [
        (path.removeprefix("text_model."), layer)
        for path, layer in network.named_modules()
        if isinstance(layer, LoraLayer)
    ]


def injected_halves(network: nn.Module) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
    """The injected LoRA's down and up halves, by path of the map."""
    return {
        path: (layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight)
        for path, layer in injected_layers(network)
    }


def learned(network: nn.Module) -> dict[str, LowRank]:
    """A copy of what the injected LoRA has learned, by path of the map."""
    return {
        path: LowRank(
            layer.lora_A[_ADAPTER].weight.detach().clone(),
            layer.lora_B[_ADAPTER].weight.detach().clone(),
        )
        for path, layer in injected_layers(network)
    }


def start_from(network: nn.Module, changes: Mapping[str, MapChange], scale: float) -> None:
    """Start the injected LoRA from `changes`; maps that are not in it start at no change.

    Raises InputError when a change fits no injected map, or is no LoRA of a linear map.
    """
    layers = dict(injected_layers(network))
    for path in changes:
        if path not in layers:
            raise InputError(f"the LoRA changes {path}, which training does not")
    for path, layer in layers.items():
        down, up = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
        if path not in changes:
            nn.init.zeros_(up)
            continue
        change = changes[path].scaled(scale)
        if not isinstance(change, LowRank):
            raise InputError(
                f"what is changed of {path} is no plain LoRA, which training goes on from"
            )
        if change.down.shape != down.shape:
            raise InputError(
                f"the LoRA has rank {len(change.down)} at {path}; training has {len(down)}: "
                f"set training.rank={len(change.down)}"
            )
        down.data.copy_(change.down)
        up.data.copy_(change.up)


def _take_off(network: nn.Module) -> None:
    for path, layer in list(network.named_modules()):
        if isinstance(layer, LoraLayer):
            parent, _, child = path.rpartition(".")
            setattr(network.get_submodule(parent), child, layer.get_base_layer())
    if hasattr(network, "peft_config"):
        del network.peft_config
