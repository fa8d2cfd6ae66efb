"""A U-Net's maps by the numbers that Stable Diffusion's first code gave its blocks.

Its blocks stand in one list for each half: two of a level, and then a change of size. Names are
flat, with `_` where a path has a dot.
"""

import re

_LEVEL = 3
"""Numbers that one level of a half takes."""

_NUMBERED = re.compile(r"(?P<half>input|output)_blocks_(?P<number>\d+)_(?P<kind>[012])_")
_NAMED = re.compile(
    r"(?P<half>down|up)_blocks_(?P<level>\d+)_(?P<kind>attentions|resnets)_(?P<place>\d+)_"
)
_SIZED = re.compile(r"(?P<half>down|up)_blocks_(?P<level>\d+)_(?:down|up)samplers_0_conv")
_KINDS = {"0": "resnets", "1": "attentions"}
_SAME = (
    ("middle_block_0_", "mid_block_resnets_0_"),
    ("middle_block_1_", "mid_block_attentions_0_"),
    ("middle_block_2_", "mid_block_resnets_1_"),
    ("time_embed_0", "time_embedding_linear_1"),
    ("time_embed_2", "time_embedding_linear_2"),
    ("label_emb_0_0", "add_embedding_linear_1"),
    ("label_emb_0_2", "add_embedding_linear_2"),
)
_WHOLE = {"input_blocks_0_0": "conv_in", "out_0": "conv_norm_out", "out_2": "conv_out"}
_IN_RESNETS = (
    ("in_layers_0", "norm1"),
    ("in_layers_2", "conv1"),
    ("emb_layers_1", "time_emb_proj"),
    ("out_layers_0", "norm2"),
    ("out_layers_3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)


def named(flat: str) -> str:
    """`input_blocks_4_1_...` as `down_blocks_1_attentions_0_...`; any other name as it is."""
    if flat in _WHOLE:
        return _WHOLE[flat]
    resized = _NUMBERED.fullmatch(flat.removesuffix("op").removesuffix("conv"))
    if resized is not None:
        if resized["half"] == "input":
            level = int(resized["number"]) // _LEVEL - 1
            return f"down_blocks_{level}_downsamplers_0_conv"
        return f"up_blocks_{int(resized['number']) // _LEVEL}_upsamplers_0_conv"

    def with_level(match: re.Match[str]) -> str:
        number, kind = int(match["number"]), _KINDS.get(match["kind"], "unknown")
        if match["half"] == "input":  # which begins with a convolution
            level, place = divmod(number - 1, _LEVEL)
            return f"down_blocks_{level}_{kind}_{place}_"
        level, place = divmod(number, _LEVEL)
        return f"up_blocks_{level}_{kind}_{place}_"

    for first, name in _SAME:
        flat = flat.replace(first, name)
    flat = _NUMBERED.sub(with_level, flat)
    if "resnets_" in flat:
        for first, name in _IN_RESNETS:
            flat = flat.replace(first, name)
    return flat


def numbered(flat: str) -> str:
    """`down_blocks_1_attentions_0_...` as `input_blocks_4_1_...`: `named` backwards.

    flat: of a map of Stable Diffusion XL.
    """
    for first, name in _WHOLE.items():
        if flat == name:
            return first
    resized = _SIZED.fullmatch(flat)
    if resized is not None:
        number = _LEVEL * int(resized["level"])
        if resized["half"] == "down":
            return f"input_blocks_{number + _LEVEL}_0_op"
        return f"output_blocks_{number + _LEVEL - 1}_2_conv"

    def with_number(match: re.Match[str]) -> str:
        number = _LEVEL * int(match["level"]) + int(match["place"])
        kind = int(match["kind"] == "attentions")
        if match["half"] == "down":
            return f"input_blocks_{number + 1}_{kind}_"
        return f"output_blocks_{number}_{kind}_"

    if "resnets_" in flat:
        for first, name in _IN_RESNETS:
            flat = flat.replace(name, first)
    for first, name in _SAME:
        flat = flat.replace(name, first)
    return _NAMED.sub(with_number, flat)
