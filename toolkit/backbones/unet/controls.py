"""A layout's image conditions, ready: what ControlNets and T2I-Adapters add to the U-Net.

Both add to feature maps. So a weight for each region is a weight for each cell of such a map: the
region's inside it, the condition's own elsewhere; where regions overlap, the nearer one's, and
of those of one depth the later one's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter
from PIL import Image
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.source import offline_copy
from toolkit.errors import InputError
from toolkit.images.pictures import read_picture
from toolkit.images.tensors import pixels_of
from toolkit.layout.areas import areas_of
from toolkit.layout.layout import Condition, ConditionType, Layout
from toolkit.layout.masks import area_masks, edge_mask
from toolkit.layout.tiles import Tile


@dataclass(frozen=True)
class ControlNetInput:
    """One ControlNet of a layout and what it reads beside the latents.

    pixels: (1, channels, height, width) in 0..1. text: of both sides, (1, places, dim): a
    ControlNet has no layer-wise tokens, so it reads the mean of the layers' encodings.
    tile: what of the canvas they show; None: all of it.
    """

    network: ControlNetModel | ControlNetUnionModel
    condition: Condition
    pixels: Tensor
    text: tuple[Tensor, Tensor]
    tile: Tile | None = None


@dataclass(frozen=True)
class Controls:
    """What the conditions of one layout add to the U-Net.

    adapter: the T2I-Adapters' weighted features, one (1, channels, h, w) for each down block; they
        depend on neither latents nor timestep. Empty without adapters.
    """

    adapter: tuple[Tensor, ...] = ()
    networks: tuple[ControlNetInput, ...] = ()

    def of_tile(self, tile: Tile) -> "Controls":
        """The same for a part of the canvas."""
        features = []
        for feature in self.adapter:
            rows, columns = feature.shape[-2:]
            own = rows * tile.height // tile.canvas[1], columns * tile.width // tile.canvas[0]
            features.append(feature[..., *tile.within(*own)])
        networks = (
            replace(one, pixels=one.pixels[..., *tile.within(tile.height, tile.width)], tile=tile)
            for one in self.networks
        )
        return Controls(tuple(features), tuple(networks))


def check_conditions(layout: Layout, base: Base) -> None:
    """Raise InputError when an image cannot be read, or a network is missing or does not fit."""
    for number, condition in enumerate(layout.conditions, 1):
        try:
            _check_network(condition, base)
            read_picture(condition.image)
        except InputError as error:
            raise InputError(f"layout {layout.name}, condition {number}: {error}") from error


@torch.no_grad()
def prepare_controls(base: Base, layout: Layout, text: tuple[Tensor, Tensor]) -> Controls:
    """Load the networks of a layout's conditions and read their images; weight 0 is left out.

    text: of both sides, what the whole picture's prompt is to each layer, (layers, places, dim).
    Raises InputError as `check_conditions` does.
    """
    adapter: list[Tensor] = []
    networks: list[ControlNetInput] = []
    for condition in layout.conditions:
        if not any((condition.weight, *condition.region_weights)):
            continue
        network = _load(condition.type, condition.model, base.device, base.dtype)
        pixels = _pixels(condition, layout, _channels(network)).to(base.device, base.dtype)
        if not isinstance(network, T2IAdapter):
            negative, positive = (encoding.mean(dim=0, keepdim=True) for encoding in text)
            networks.append(ControlNetInput(network, condition, pixels, (negative, positive)))
        else:
            added = [weighted(feature, condition, layout) for feature in network(pixels)]
            adapter = [a + b for a, b in zip(adapter, added, strict=True)] if adapter else added
    return Controls(tuple(adapter), tuple(networks))


def weighted(
    feature: Tensor, condition: Condition, layout: Layout, tile: Tile | None = None
) -> Tensor:
    """(n, channels, h, w) of what a network adds, times the condition's weight in each cell."""
    height, width = feature.shape[-2:]
    return feature * weight_map(condition, layout, height, width, tile).to(feature)


def weight_map(
    condition: Condition, layout: Layout, height: int, width: int, tile: Tile | None = None
) -> Tensor:
    """(height, width): the weight of a condition in each cell of a map over the canvas, or a tile.

    tile: what of the canvas the map shows; None: all of it.
    """
    weights = torch.full((height, width), condition.weight)
    areas = [replace(area, tile=tile) for area in areas_of(layout.regions)]
    visible = area_masks(areas, height, width)
    for area, mask, weight in zip(areas, visible, condition.region_weights, strict=False):
        if weight is not None:
            acting = mask * edge_mask(area, height, width)
            weights = torch.lerp(weights, torch.tensor(weight), acting)
    return weights


Network: TypeAlias = ControlNetModel | ControlNetUnionModel | T2IAdapter

_CLASSES: dict[ConditionType, tuple[type[Network], ...]] = {
    ConditionType.CONTROLNET: (ControlNetModel, ControlNetUnionModel),
    ConditionType.T2I_ADAPTER: (T2IAdapter,),
}


@lru_cache(maxsize=4)
def _load(kind: ConditionType, path: str, device: torch.device, dtype: torch.dtype) -> Network:
    """The network, frozen; kept, since the layouts of a batch mostly share theirs."""
    try:
        made = _class_of(_CLASSES[kind][0].load_config(path), kind, path)
        network = made.from_pretrained(path, torch_dtype=dtype)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot load {path}: {str(error).strip().splitlines()[0]}") from error
    return network.requires_grad_(False).eval().to(device)


def _check_network(condition: Condition, base: Base) -> None:
    """Read the network's config and compare it with the base, before any weight is loaded."""
    path = condition.model
    try:
        if not Path(path).exists():  # asked once: the hub's client would try for half a minute
            offline_copy(path, f"cannot load {path}: it is no folder here", "config.json")
        config: dict[str, Any] = _CLASSES[condition.type][0].load_config(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load {path}: {str(error).strip().splitlines()[0]}") from error
    made = _class_of(config, condition.type, path)
    if made is T2IAdapter:
        found, own = _shape_of_adapter(config), _adapter_for(base, config.get("adapter_type"))
    else:
        found, own = _shape_of_controlnet(config), _controlnet_for(base)
        _check_mode(condition, config.get("num_control_type"))
    if list(found) != list(own):
        raise InputError(f"{path} was made for another base than {base.name}: {found}, not {own}")


def _class_of(config: dict[str, Any], kind: ConditionType, path: str) -> type[Network]:
    name = config.get("_class_name")
    for known in _CLASSES[kind]:
        if name == known.__name__:
            return known
    wanted = " or ".join(known.__name__ for known in _CLASSES[kind])
    raise InputError(f"{path} is a {name}; type {kind} needs a {wanted}")


def _check_mode(condition: Condition, modes: int | None) -> None:
    """Raise InputError for a mode that the network lacks.

    modes: how many it has; None for one that reads one kind of image.
    """
    path, mode = condition.model, condition.mode
    if modes is None and mode is not None:
        raise InputError(f"{path} reads one kind of image: leave out mode")
    if modes is not None and (mode is None or not 0 <= mode < modes):
        raise InputError(
            f"{path} reads {modes} kinds of images: say which this is with mode, from 0 to "
            f"{modes - 1}"
        )


def _shape_of_controlnet(config: dict[str, Any]) -> Sequence[Any]:
    return (
        list(config["block_out_channels"]),
        config["cross_attention_dim"],
        config["in_channels"],
        2 ** (len(config["conditioning_embedding_out_channels"]) - 1),
        config.get("addition_embed_type"),
    )


def _controlnet_for(base: Base) -> Sequence[Any]:
    config = base.unet.config
    return (
        list(config.block_out_channels),
        config.cross_attention_dim,
        base.latent_channels,
        base.pixels_per_latent,
        config.addition_embed_type,
    )


def _shape_of_adapter(config: dict[str, Any]) -> Sequence[Any]:
    return list(config["channels"]), config["downscale_factor"]


def _adapter_for(base: Base, kind: str | None) -> Sequence[Any]:
    """Of an adapter with one feature for each level of the U-Net.

    Stable Diffusion XL's first level has no attention, so its adapters (`full_adapter_xl`) begin at
    half the latent's size, and add to the middle block too.
    """
    levels = list(base.unet.config.block_out_channels)
    if kind == "full_adapter_xl":
        return [*levels, levels[-1]], 2 * base.pixels_per_latent
    return levels, base.pixels_per_latent


def _channels(network: Network) -> int:
    config = network.config
    return int(
        config.in_channels if isinstance(network, T2IAdapter) else config.conditioning_channels
    )


def _pixels(condition: Condition, layout: Layout, channels: int) -> Tensor:
    """(1, channels, height, width) in 0..1: the image stretched over the canvas.

    Sketch adapters read one channel.
    """
    size = (layout.width, layout.height)
    image = read_picture(condition.image).resize(size, Image.Resampling.LANCZOS)
    return pixels_of(image.convert("L") if channels == 1 else image)[None]
