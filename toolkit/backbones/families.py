"""Which family of models a file of tensors belongs to, and what part of a model it is.

Told by the names of its tensors, which every program keeps: `.` and `_` between their parts differ.
"""

import re
from collections.abc import Collection, Mapping

from toolkit.errors import InputError

SD1, SD2, SDXL = "Stable Diffusion 1.x", "Stable Diffusion 2.x", "Stable Diffusion XL"
REFINER = "Stable Diffusion XL refiner"
SUPPORTED = "Stable Diffusion 1.x, 2.x and XL"
"""Families of bases, in words."""

# The first that one name fits; those of several families stand behind those of one.
_BY_NAME = (
    (r"distilled_guidance_layer", "Chroma"),
    (r"single_transformer_blocks|(double|single)_blocks[._]\d", "Flux"),
    (r"joint_transformer_blocks", "AuraFlow"),
    (r"joint_blocks[._]\d", "Stable Diffusion 3"),
    (r"transformer_blocks[._]\d+[._](img_m|txt_m)", "Qwen-Image"),
    (r"double_stream_blocks", "HiDream"),
    (r"(noise|context)_refiner|layers[._]\d+[._](attention[._]|adaLN)", "Z-Image or Lumina 2"),
    (r"blocks[._]\d+[._](self_attn|cross_attn|ffn)[._]", "Wan"),
    (r"transformer\.blocks[._]\d+[._]attn[12][._]", "Wan"),
    (r"lora_prior_|prior_unet", "Stable Cascade"),
    (r"transformer[._]transformer_blocks[._]\d+[._]attn[._]", "Flux or Stable Diffusion 3"),
    (r"^(transformer|lora_transformer)[._]", "a diffusion transformer"),
    (r"^diffusion_model\.(?!input_blocks|middle_block|output_blocks)", "a diffusion transformer"),
    (r"conditioner[._]embedders[._]0[._]model[._]", REFINER),
    (r"lora_te2_|text_encoder_2[._]|conditioner[._]embedders", SDXL),
    (r"add_embedding|label_emb|clip_g", SDXL),
    (r"(attentions[._]\d+|block_1|blocks_\d+_1|blocks\.\d+\.1)[._]transformer_blocks[._][1-9]",
     SDXL),
    (r"^cond_stage_model\.model\.", SD2),
)  # fmt: skip
_FAMILIES = tuple((re.compile(pattern), family) for pattern, family in _BY_NAME)

_BY_METADATA = (
    (r"xl", SDXL),
    (r"sd_v1|stable-diffusion-v1", SD1),
    (r"flux", "Flux"),
    (r"sd3|stable-diffusion-3", "Stable Diffusion 3"),
    (r"sd_v2|stable-diffusion-v2", SD2),
    (r"wan", "Wan"),
    (r"qwen", "Qwen-Image"),
    (r"lumina|zimage|z-image", "Z-Image or Lumina 2"),
    (r"hunyuan", "Hunyuan"),
)

_ONE_TEXT_ENCODER = re.compile(  # its U-Net has four levels; Stable Diffusion XL's has three
    r"^lora_te_|(down_blocks[._]0|up_blocks[._]3)[._]attentions"
    r"|(input_blocks[._][12]|output_blocks[._]([6-9]|1[01]))[._]1[._]"
)
_HEARS = re.compile(
    r"attn2[._](processor\.)?to_[kv]((_lora|\.lora|\.lora_linear_layer)[._](down|A)\b"
    r"|\.hada_w[12]_b|\.diff$)"
)
_LORA = re.compile(
    r"(^|[._])lora[._]|[._](hada|lokr|oft|boft)_|\.ia3_l"
    r"|\.(dora_scale|alpha|on_input|diff|diff_b|w_norm|b_norm)$"
)
_WHOLE = re.compile(r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.")
_PARTS = (
    (r"^control_model\.|controlnet_|input_hint_block", "a ControlNet"),
    (r"^(image_proj|ip_adapter)\.|^image_proj$", "an IP-Adapter"),
    (r"^(down_blocks|up_blocks|mid_block|input_blocks|conv_in)\.", "a whole U-Net"),
    (r"^(encoder|decoder)\.(down|up|mid|conv)", "an autoencoder"),
    (r"^(text_model|encoder)\.(encoder|block|embeddings)", "a text encoder"),
    (r"\.rdb1\.|^conv_first\.|^model\.0\.weight$", "an upscaler"),
    (r"^model\.diffusion_model\.", "a whole model"),
)


def family_of(names: Collection[str]) -> str | None:
    """The family that tensors of these names are for; None for Stable Diffusion 1.x and unknown."""
    for pattern, family in _FAMILIES:
        if any(pattern.search(name) for name in names):
            return family
    return None


def family_in(metadata: Mapping[str, str]) -> str | None:
    """The family that a LoRA's own metadata names."""
    told = " ".join(
        metadata.get(key, "")
        for key in ("ss_base_model_version", "modelspec.architecture", "base_model")
    )
    return next((name for pattern, name in _BY_METADATA if re.search(pattern, told.lower())), None)


def has_one_text_encoder(names: Collection[str]) -> bool:
    """Whether tensors of a LoRA are for Stable Diffusion 1.x or 2.x, which have the same names."""
    return any(_ONE_TEXT_ENCODER.search(name) for name in names)


def hears_text(name: str) -> bool:
    """Whether a tensor of a LoRA is the half that is given what the text encoders say."""
    return _HEARS.search(name) is not None


def is_lora(names: Collection[str]) -> bool:
    """Whether tensors of these names change a model, and are none themselves.

    A name in angle brackets is a word that was learned, whatever it says: <my_lora_2>.
    """
    return any(_LORA.search(name) for name in names if not name.startswith("<"))


def whole_part(names: Collection[str]) -> str | None:
    """What of a model these tensors are, in words; None for what changes one, and for unknown."""
    if is_lora(names):
        return None
    if any(_WHOLE.search(name) for name in names):
        return f"a whole {family_of(names) or 'Stable Diffusion'} model"
    for pattern, part in _PARTS:
        if any(re.search(pattern, name) for name in names):
            return part
    return None


def two_text_encoders(base: str) -> InputError:
    """Why Cones 2 neither learns nor draws on a base with a second text encoder."""
    return InputError(
        f"Cones 2 changes what one text encoder says, and {base} has two ({SDXL}): take a base of "
        f"{SD1} or 2.x"
    )
