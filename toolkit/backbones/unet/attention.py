"""The LoRA-Composer block: attention processors that know where each concept stands (fig. 2b)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from toolkit.backbones import Base
from toolkit.backbones.unet.conditioning import POSITIVE
from toolkit.backbones.unet.elsewhere import changes_elsewhere
from toolkit.backbones.unet.isolation import BLOCKED, Isolation, blocked_counts, isolation
from toolkit.backbones.unet.placed import outside_of
from toolkit.backbones.unet.share import Share
from toolkit.layout.cells import cover_of
from toolkit.methods.method import Method


@dataclass
class AttentionMaps:
    """One layout's maps at the guidance resolution, from every layer that has it.

    cross: per layer, (seeds, regions, cells, places) probabilities, averaged over heads.
    own: per layer, (seeds, cells, cells) self-attention probabilities, averaged over heads.
    """

    cross: list[Tensor] = field(default_factory=list)
    own: list[Tensor] = field(default_factory=list)


class MapsComplete(Exception):
    """Ends a guidance pass after its last map: nothing behind it is needed."""


@dataclass
class Recorder:
    """Collects the maps of one guidance pass, one AttentionMaps for each share of the batch."""

    downscale: int
    last_layer: str
    maps: list[AttentionMaps]
    wants_self_attention: bool


@contextmanager
def composed_attention(
    base: Base,
    shares: Sequence[Share],
    method: Method,
    latent_size: tuple[int, int],
    recorder: Recorder | None = None,
    closed: bool = False,
) -> Iterator[None]:
    """Set the processors of all attention layers for one pass, and put the old ones back.

    closed: boxes do not see the background either.
    """
    attentions: list[tuple[Attention, nn.Module]] = []
    try:
        for layer in base.layers:
            size = layer.map_size(latent_size)
            recording = recorder if recorder and layer.downscale == recorder.downscale else None
            own, cross = layer.self_attention, layer.cross_attention
            processors: dict[str, Any] = {
                own: IsolatedSelfAttention(own, shares, method, size, recording, closed),
                cross: InjectedCrossAttention(cross, shares, method, size, recording),
            }
            for path, processor in processors.items():
                attention = base.unet.get_submodule(path)
                attentions.append((attention, attention.processor))
                attention.processor = processor
        with changes_elsewhere(base, shares, method, latent_size):
            yield
    finally:
        for attention, processor in attentions:
            attention.processor = processor


@dataclass
class IsolatedSelfAttention:
    """Self-attention in which boxes do not see each other (concept region mask)."""

    path: str
    shares: Sequence[Share]
    method: Method
    size: tuple[int, int]
    recorder: Recorder | None
    closed: bool

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """(rows, cells, channels) to the same shape."""
        query = _split_heads(self._project("to_q", attention.to_q, hidden_states), attention)
        key = _split_heads(self._project("to_k", attention.to_k, hidden_states), attention)
        value = _split_heads(self._project("to_v", attention.to_v, hidden_states), attention)
        outputs = []
        for index, share in enumerate(self.shares):
            q, k, v = query[share.rows], key[share.rows], value[share.rows]
            boxes = [cells for _, cells in share.boxes(*self.size)]
            masked = self.method.concept_region_mask
            if self.recorder is not None and self.recorder.wants_self_attention:
                bias = None
                if masked and len(boxes) > (0 if self.closed else 1):
                    bias = blocked_counts(boxes, *self.size, q.device, self.closed) * BLOCKED
                probabilities = _probabilities(q, k, attention.scale, bias)
                self.recorder.maps[index].own.append(probabilities.mean(dim=1))
                outputs.append(probabilities.to(v.dtype) @ v)
            else:
                groups = None
                if masked:
                    groups = isolation(boxes, *self.size, q.device, self.closed)
                outputs.append(_isolated(q, k, v, groups, attention.scale))
        joined = _join_heads(torch.cat(outputs) if len(outputs) > 1 else outputs[0])
        return self._project("to_out.0", attention.to_out[0], joined)

    def _project(self, name: str, linear: nn.Module, x: Tensor) -> Tensor:
        injected = self.method.injection and self.method.constants.self_attention_injection
        return _changed(linear, x, f"{self.path}.{name}", self.shares, self.size, injected)


@dataclass
class InjectedCrossAttention:
    """Cross-attention in which each box hears its own concept's prompt (eqs. 2, 3)."""

    path: str
    shares: Sequence[Share]
    method: Method
    size: tuple[int, int]
    recorder: Recorder | None

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """(rows, cells, channels) to the same shape. Keys and values are the layout's own."""
        injected = self.method.injection and self.method.constants.query_injection
        path = f"{self.path}.to_q"
        query = _split_heads(
            _changed(attention.to_q, hidden_states, path, self.shares, self.size, injected),
            attention,
        )
        if self.recorder is not None:
            for share, maps in zip(self.shares, self.recorder.maps, strict=True):
                maps.cross.append(self._maps(query[share.rows], share, attention.scale))
            if self.path == self.recorder.last_layer:
                raise MapsComplete
        joined, changes = [], []
        for share in self.shares:
            hidden, change = self._attend(query[share.rows], share, attention.scale)
            joined.append(hidden)
            changes.append(change)
        hidden = torch.cat(joined) if len(joined) > 1 else joined[0]
        change = torch.cat(changes) if len(changes) > 1 else changes[0]
        return attention.to_out[0](hidden) + change

    def _maps(self, query: Tensor, share: Share, scale: float) -> Tensor:
        """(seeds, regions, cells, places): every region's keys seen from the whole canvas."""
        if not share.conditioning.regions:
            return query.new_zeros((len(query), 0, query.shape[2], 0))
        keys = share.conditioning.regional[share.sides[-1]][self.path].keys
        scores = torch.einsum("shqd,rhkd->srhqk", query * scale, keys)
        return scores.softmax(dim=-1, dtype=torch.float32).mean(dim=2)

    def _attend(self, query: Tensor, share: Share, scale: float) -> tuple[Tensor, Tensor]:
        """What to_out.0 is given, and what the LoRAs add to its output; both (rows, cells, ...)."""
        conditioning, sides = share.conditioning, len(share.sides)
        seeds = len(query) // sides
        canvas = [conditioning.canvas[side][self.path] for side in share.sides]
        key = torch.cat([side.keys.expand(seeds, -1, -1, -1) for side in canvas])
        value = torch.cat([side.values.expand(seeds, -1, -1, -1) for side in canvas])
        boxes = share.boxes(*self.size) if self.method.injection else []
        unheard = conditioning.subjects if boxes else ()
        bias = self._bias(unheard, self.method.constants.subject_bias, share, key)
        hidden = _join_heads(
            functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
        )
        behind = conditioning.background.get(f"{self.path}.to_out.0")
        change = torch.zeros((), device=query.device, dtype=query.dtype)
        if behind is not None:
            change = behind(hidden)
        if not boxes:
            return hidden, change.expand_as(hidden) if behind is None else change
        cover = cover_of([cells for _, cells in boxes], query.new_zeros(self.size))
        outside = (cover == 0).to(query.dtype)
        hidden = hidden.unflatten(1, self.size) * outside[..., None]
        change = change.expand_as(hidden.flatten(1, 2)).unflatten(1, self.size) * outside[..., None]
        grid = query.unflatten(2, self.size)
        for index, cells in boxes:
            rows, columns = slice(cells.top, cells.bottom), slice(cells.left, cells.right)
            regional = [conditioning.regional[side][self.path] for side in share.sides]
            key = torch.cat([s.keys[index].expand(seeds, -1, -1, -1) for s in regional])
            places = conditioning.regions[index].places
            bias = self._bias(places, self.method.constants.word_bias, share, key)
            inside = functional.scaled_dot_product_attention(
                grid[:, :, rows, columns].flatten(2, 3),
                key,
                torch.cat([s.values[index].expand(seeds, -1, -1, -1) for s in regional]),
                attn_mask=bias,
                scale=scale,
            )
            inside = _join_heads(inside)
            weight = (1 / cover[rows, columns])[..., None]
            shape = (cells.height, cells.width)
            hidden[:, rows, columns] += inside.unflatten(1, shape) * weight
            output = conditioning.regions[index].output.get(f"{self.path}.to_out.0")
            if output is not None:
                change[:, rows, columns] += output(inside).unflatten(1, shape) * weight
        return hidden.flatten(1, 2), change.flatten(1, 2)

    def _bias(
        self, places: tuple[int, ...], bias: float, share: Share, keys: Tensor
    ) -> Tensor | None:
        """(rows, 1, 1, places): what scores gain at some places of the positive prompt."""
        if not bias or not places:
            return None
        length, seeds = keys.shape[2], len(keys) // len(share.sides)
        return _bias_at(places, length, bias, share.sides, seeds, (keys.device, keys.dtype))


@lru_cache(maxsize=512)
def _bias_at(
    places: tuple[int, ...],
    length: int,
    bias: float,
    sides: tuple[str, ...],
    seeds: int,
    like: tuple[torch.device, torch.dtype],
) -> Tensor:
    """(rows, 1, 1, length): `bias` at some places of the positive prompt, 0 elsewhere.

    Kept, because every layer asks for it again at every step.
    """
    device, dtype = like
    row = torch.zeros(length)
    row[list(places)] = bias
    rows = [
        row if side == POSITIVE else torch.zeros(length) for side in sides for _ in range(seeds)
    ]
    return torch.stack(rows)[:, None, None].to(device, dtype)


def _changed(
    linear: nn.Module,
    x: Tensor,
    path: str,
    shares: Sequence[Share],
    size: tuple[int, int],
    injected: bool,
) -> Tensor:
    """`linear(x)`, changed by each layout's background concept and, if `injected`, its regions'.

    Where a region's concepts act, the background's does not.
    """
    output: Tensor = linear(x)
    for share in shares:
        behind = share.conditioning.background.get(path)
        inside = share.conditioning.inside.get(path) if injected else None
        own, cells = x[share.rows], share.cells(*size) if inside is not None else ()
        if behind is not None:
            change = behind(own)
            if inside is not None:
                change = change * outside_of(cells, *size, x.device, x.dtype)
            output[share.rows] = output[share.rows] + change
        if inside is not None:
            output[share.rows] = output[share.rows] + inside(own, cells, size)
    return output


def _isolated(
    query: Tensor, key: Tensor, value: Tensor, groups: Isolation | None, scale: float
) -> Tensor:
    """(rows, heads, cells, d) attention in which each group of queries sees only its own keys."""
    if groups is None:
        return functional.scaled_dot_product_attention(query, key, value, scale=scale)
    outputs = []
    for group in groups.groups:
        # Scores that are all lowered by 1e6 keep the rounding they have in the released sampler.
        bias = query.new_full((1, 1, 1, len(group.keys)), group.bias) if group.bias else None
        outputs.append(
            functional.scaled_dot_product_attention(
                query[:, :, group.queries],
                key[:, :, group.keys],
                value[:, :, group.keys],
                attn_mask=bias,
                scale=scale,
            )
        )
    return torch.cat(outputs, dim=2)[:, :, groups.restore]


def _probabilities(query: Tensor, key: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """(rows, heads, queries, keys) attention probabilities in float32."""
    scores = (query * scale) @ key.transpose(-1, -2)
    scores = scores.float() if bias is None else scores.float() + bias
    return scores.softmax(dim=-1)


def _split_heads(x: Tensor, attention: Attention) -> Tensor:
    return x.unflatten(-1, (attention.heads, -1)).transpose(1, 2)


def _join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
