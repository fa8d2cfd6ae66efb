"""What a map of a LoRA file belongs to, told by its name in any program's spelling."""

import re

_KINDS = (
    (r"^(lora_te|text_encoder|te\d?[._]|cond_stage)|text_model|self_attn", "the text encoder"),
    (r"time_emb|emb_layers|add_embedding|label_emb", "the timestep's part"),
    (r"norm\d?$|norm_out$|(in|out)_layers[._]0$|unet[._]out[._]0$", "norms"),
    (r"attn1[._]|self_attention", "self-attention"),
    (r"attn2[._]|cross_attn", "cross-attention"),
    (r"[._](ff|feed_forward|mlp|ffn)[._]", "feed-forward"),
    (r"proj_(in|out)", "attention's projections"),
    (r"conv|downsamplers|upsamplers|resnets|in_layers|out_layers|skip|[._]op", "convolutions"),
    (r"attn|attention|qkv", "attention"),
)  # fmt: skip
_COMPILED = tuple((re.compile(pattern), kind) for pattern, kind in _KINDS)


def map_kind(module: str) -> str:
    """The part of a model that a map is in: the text encoder, self-attention, convolutions, ..."""
    return next((kind for pattern, kind in _COMPILED if pattern.search(module)), "other maps")


def text_width(module: str, inputs: int) -> int | None:
    """How wide the text is that a map reads; None for a map that reads no text."""
    reads_text = re.search(r"attn2[._](to|processor\.to)_[kv](_lora)?$", module) is not None
    return inputs if reads_text else None
