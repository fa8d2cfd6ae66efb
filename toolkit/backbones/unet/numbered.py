"""A U-Net's maps by the numbers that Stable Diffusion's first code gave its blocks.

Its blocks stand in one list for each half: two of a level, and then a change of size. Names are
flat, with `_` where a path has a dot.
"""

import re

_LEVEL = 3
"""Numbers that one level of a half takes."""

_NUMBERED = re.compile(r"(?P<half>input|output)_blocks_(?P<number>\d+)_(?P<kind>[01])_")
_NAMED = re.compile(r"(?P<half>down|up)_blocks_(?P<level>\d+)_attentions_(?P<place>\d+)_")
_KINDS = {"0": "resnets", "1": "attentions"}
_SAME = (
    ("middle_block_0_", "mid_block_resnets_0_"),
    ("middle_block_1_", "mid_block_attentions_0_"),
    ("middle_block_2_", "mid_block_resnets_1_"),
    ("emb_layers_1", "time_emb_proj"),
    ("time_embed_0", "time_embedding_linear_1"),
    ("time_embed_2", "time_embedding_linear_2"),
    ("label_emb_0_0", "add_embedding_linear_1"),
    ("label_emb_0_2", "add_embedding_linear_2"),
)


def named(flat: str) -> str:
    """`input_blocks_4_1_...` as `down_blocks_1_attentions_0_...`; any other name as it is."""

    def with_level(match: re.Match[str]) -> str:
        number, kind = int(match["number"]), _KINDS[match["kind"]]
        if match["half"] == "input":  # which begins with a convolution
            level, place = divmod(number - 1, _LEVEL)
            return f"down_blocks_{level}_{kind}_{place}_"
        level, place = divmod(number, _LEVEL)
        return f"up_blocks_{level}_{kind}_{place}_"

    for first, name in _SAME:
        flat = flat.replace(first, name)
    return _NUMBERED.sub(with_level, flat)


def numbered(flat: str) -> str:
    """`down_blocks_1_attentions_0_...` as `input_blocks_4_1_...`: `named` backwards.

    flat: of a map in a transformer.
    """

    def with_number(match: re.Match[str]) -> str:
        number = _LEVEL * int(match["level"]) + int(match["place"])
        if match["half"] == "down":
            return f"input_blocks_{number + 1}_1_"
        return f"output_blocks_{number}_1_"

    return _NAMED.sub(with_number, flat.replace("mid_block_attentions_0_", "middle_block_1_"))
