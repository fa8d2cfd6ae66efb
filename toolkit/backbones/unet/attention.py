"""The LoRA-Composer block: attention processors that know where each concept stands (fig. 2b).

They are set once, when a base is loaded, and hold nothing that changes: what a pass needs comes
with its call (`composing`). A call without it is the layer's own plain attention.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from toolkit.backbones.unet.isolation import Isolation
from toolkit.backbones.unet.sites import AttentionLayer
from toolkit.backbones.unet.steering import steered_probabilities

if TYPE_CHECKING:
    from toolkit.backbones.unet.inputs import CrossInputs, IsolatedRows, PassInputs, SelfInputs


@dataclass
class Maps:
    """What one pass's layers at the guidance grid attend to, a tensor for each layer.

    cross_attention: (rows, cells, regions, places) probabilities, averaged over heads.
    self_attention: for each layout of the batch, (its rows, cells, cells), averaged over heads.
    last: the path of the last layer that has maps; the pass ends there.
    """

    last: str
    cross_attention: list[Tensor] = field(default_factory=list)
    self_attention: list[list[Tensor]] = field(default_factory=list)


class MapsComplete(Exception):
    """Ends a guidance pass after its last map: nothing behind it is needed."""


@dataclass(frozen=True)
class Composing:
    """What the layers of one pass are given, and where they put their maps."""

    inputs: "PassInputs"
    maps: Maps | None = None
    steering: Tensor | None = None
    """How strongly layout guidance acts; None: not at all."""
    maps_computed_again: bool = False
    """The way back computes probabilities again: they are most of what such a layer would keep."""

    def kept_or_not(self, attend: Callable[..., Any], *given: Any) -> Any:
        """What `attend`, which takes the maps of a layer, makes of what it is given."""
        if not self.maps_computed_again:
            return attend(*given)
        return checkpoint(attend, *given, use_reentrant=False, preserve_rng_state=False)


@dataclass(frozen=True)
class IsolatedSelfAttention:
    """Self-attention in which boxes do not see each other (concept region mask)."""

    path: str
    plain: Any

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        composing: Composing | None = None,
    ) -> Tensor:
        """(rows, cells, channels) to the same shape."""
        if composing is None:
            output: Tensor = self.plain(attention, hidden_states, encoder_hidden_states)
            return output
        inputs = composing.inputs.self_attention[self.path]
        query, key, value = _projected(attention, hidden_states, inputs)
        if inputs.biases is not None and composing.maps is not None:
            attended, *found = composing.kept_or_not(
                _with_maps, query, key, value, inputs, attention.scale
            )
            composing.maps.self_attention.append(found)
        else:
            attended = _isolated(query, key, value, inputs.isolated, attention.scale)
        joined = _join_heads(attended)
        output = attention.to_out[0](joined)
        return output if inputs.output is None else inputs.output.added(output, joined)


@dataclass(frozen=True)
class InjectedCrossAttention:
    """Cross-attention in which each box attends to its own concept's prompt (eqs. 2, 3)."""

    path: str
    plain: Any

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        composing: Composing | None = None,
    ) -> Tensor:
        """(rows, cells, channels) to the same shape. Keys and values are the layouts' own."""
        if composing is None:
            output: Tensor = self.plain(attention, hidden_states, encoder_hidden_states)
            return output
        inputs = composing.inputs.cross_attention[self.path]
        query = attention.to_q(hidden_states)
        if inputs.query is not None:
            query = inputs.query.added(query, hidden_states)
        query = _split_heads(query, attention.heads)
        if inputs.regional is not None and composing.maps is not None:
            composing.maps.cross_attention.append(
                composing.kept_or_not(_regional_maps, query, inputs, attention.scale)
            )
            if self.path == composing.maps.last:
                raise MapsComplete
        return _injected(attention, query, inputs, composing.steering)


def _injected(
    attention: Attention, query: Tensor, inputs: "CrossInputs", strength: Tensor | None
) -> Tensor:
    """(rows, cells, channels): each cell attends to its own prompt, all in one attention.

    A cell that several regions hold attends once to each one's prompt, and the mean is taken.
    """
    depth = inputs.depth
    if depth > 1:
        query = query.repeat(1, 1, depth, 1)
    if inputs.steering is not None and strength is not None:
        scores = query @ inputs.keys.transpose(-1, -2)
        steered = steered_probabilities(scores, inputs.steering, strength, attention.scale)
        attended = steered.to(query.dtype) @ inputs.values
    else:
        attended = functional.scaled_dot_product_attention(
            query, inputs.keys, inputs.values, attn_mask=inputs.mask, scale=attention.scale
        )
    hidden = _join_heads(attended)
    mean = hidden
    if inputs.weights is not None:
        mean = (hidden.unflatten(1, (depth, -1)) * inputs.weights).sum(dim=1)
    output: Tensor = attention.to_out[0](mean)
    return output if inputs.output is None else inputs.output.added(output, hidden, depth)


def _regional_maps(query: Tensor, inputs: "CrossInputs", scale: float) -> Tensor:
    """(rows, cells, regions, places): how the whole canvas attends to each region's prompt."""
    assert inputs.regional is not None
    scores = (query * scale) @ inputs.regional.transpose(-1, -2)
    by_region = scores.unflatten(-1, (-1, inputs.window))
    return by_region.softmax(dim=-1, dtype=torch.float32).mean(dim=1)


def _projected(
    attention: Attention, hidden_states: Tensor, inputs: "SelfInputs"
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (rows, heads, cells, width), with what concepts change of them."""
    maps = {"to_q": attention.to_q, "to_k": attention.to_k, "to_v": attention.to_v}
    projected = {name: linear(hidden_states) for name, linear in maps.items()}
    if inputs.qkv is not None:
        inner = hidden_states @ inputs.qkv.down
        if inputs.qkv.weights is not None:
            inner = inner * inputs.qkv.weights
        for name, (ranks, change) in inputs.qkv.parts.items():
            projected[name] = change.outer(projected[name], inner[..., ranks])
    for name, other in inputs.others.items():
        projected[name] = other.added(projected[name], hidden_states)
    query, key, value = (_split_heads(part, attention.heads) for part in projected.values())
    return query, key, value


def _isolated(
    query: Tensor, key: Tensor, value: Tensor, isolated: "tuple[IsolatedRows, ...]", scale: float
) -> Tensor:
    """(rows, heads, cells, width) attention, each layout's rows under their region mask."""
    attended = torch.empty_like(query) if len(isolated) > 1 else query
    for rows, mask in isolated:
        q, k, v = (part if rows is None else part[rows] for part in (query, key, value))
        if isinstance(mask, Isolation):
            part = _grouped(q, k, v, mask, scale)
        else:
            part = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        attended = part if rows is None else attended.index_copy(0, rows, part)
    return attended


def _grouped(query: Tensor, key: Tensor, value: Tensor, groups: Isolation, scale: float) -> Tensor:
    """(rows, heads, cells, width) attention in which each group sees only its own keys."""
    outputs = []
    for group in groups.groups:
        bias = None
        if group.bias and query.dtype is torch.float32:
            bias = query.new_full((1, 1, 1, len(group.keys)), group.bias)
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


def _with_maps(
    query: Tensor, key: Tensor, value: Tensor, inputs: "SelfInputs", scale: float
) -> tuple[Tensor, ...]:
    """(rows, heads, cells, width) attention, and each layout's probabilities as `Maps` has them."""
    assert inputs.biases is not None
    scores = ((query * scale) @ key.transpose(-1, -2)).float()
    found, parts = [], []
    for (rows, _), bias in zip(inputs.isolated, inputs.biases, strict=True):
        biased = scores if rows is None else scores[rows]
        biased = biased if bias is None else biased + bias
        probabilities = biased.softmax(dim=-1)
        found.append(probabilities.mean(dim=1))
        parts.append(probabilities)
    whole = parts[0]
    if len(parts) > 1:
        order = torch.cat([rows for rows, _ in inputs.isolated if rows is not None]).argsort()
        whole = torch.cat(parts)[order]
    return whole.to(value.dtype) @ value, *found


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def install(unet: UNet2DConditionModel, layers: Sequence[AttentionLayer]) -> None:
    """Set the processors of all attention layers that do not have them yet."""
    kinds: dict[str, Any] = {layer.self_attention: IsolatedSelfAttention for layer in layers}
    kinds |= {layer.cross_attention: InjectedCrossAttention for layer in layers}
    for path, kind in kinds.items():
        attention = unet.get_submodule(path)
        if not isinstance(attention.processor, kind):
            attention.processor = kind(path, attention.processor)
