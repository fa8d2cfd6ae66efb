"""`toolkit inspect FILE`: what a file is, for which base, what it changes, what calls it.

Told by its header alone: nothing is loaded, and no GPU is needed.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.backbones.families import SD1, SD2, SDXL, family_in, family_of, is_lora, whole_part
from toolkit.backbones.unet.map_kinds import map_kind, text_width
from toolkit.concept.header import Header, read_header
from toolkit.concept.stored import CONES2, FORMAT, RECIPE, RESIDUAL
from toolkit.files import sha256_of
from toolkit.text.wording import counted, listed

_BY_WIDTH = {
    768: SD1,
    1024: SD2,
    2048: SDXL,
}
_DOWN = re.compile(r"(?P<module>.+?)[._]lora(?:_linear_layer)?[._](?:down|A)(?:\.\w+)?\.weight")
_OTHER = re.compile(
    r"(?P<module>.+?)\.(?:hada_w1_a|lokr_w1(?:_a)?|oft_blocks|oft_diag|diff|diff_b|w_norm|b_norm"
    r"|ia3_(?:l|input|output|output_weight)|on_input)"
)
_DORA = re.compile(r"(?P<module>.+?)\.(?:dora_scale|lora_magnitude_vector)(?:\.\w+)*")
_MARKS = (
    ("hada_", "LoHa"),
    ("lokr_", "LoKr"),
    ("oft_", "OFT"),
    ("ia3_", "(IA)^3"),
    (".on_input", "(IA)^3"),
    (".diff", "full differences"),
    (".w_norm", "norms"),
)
_VECTORS = ("emb_params", "clip_l", "clip_g", "string_to_param")

Facts = list[tuple[str, str]]


def inspect_file(path: Path) -> Facts:
    """What a file is, in labelled lines. Raises InputError for one that has no readable header."""
    header = read_header(path)
    facts = _of_concept(header) if header.metadata.get("format") == FORMAT else _of_foreign(header)
    total = sum(_product(shape) for shape in header.shapes.values())
    types = ", ".join(sorted(set(header.types.values())))
    facts.append(("size", f"{path.stat().st_size / 1e6:.1f} MB, {total:,} values of {types}"))
    facts.append(("sha256", sha256_of(path)))
    return facts


def kind_of_concept(header: Header) -> str:
    """What a concept file holds."""
    if header.metadata.get(RECIPE) == CONES2:
        return "Cones 2"
    tokens = header.shapes.get("token_embeddings", (0,))[0]
    if not _maps(header) and not _others(header):
        return "embeddings"
    kinds = _kinds(header)
    return "ED-LoRA" if tokens and kinds == "LoRA" else kinds


def settings_in(metadata: Mapping[str, str]) -> dict[str, str]:
    """The settings that a concept was trained with; empty for one that was imported."""
    try:
        settings = json.loads(metadata.get("training", "{}"))
    except ValueError:
        return {}
    return dict(settings) if isinstance(settings, dict) else {}


def called_by(metadata: Mapping[str, str]) -> str:
    """The words of a prompt that call a concept of this toolkit."""
    return f"<{metadata.get('name', '')}>"


def _of_concept(header: Header) -> Facts:
    metadata, settings = header.metadata, settings_in(header.metadata)
    tokens, layers, width = (*header.shapes.get("token_embeddings", ()), 0, 0, 0)[:3]
    facts = [
        ("is", f"a concept of this toolkit, {kind_of_concept(header)}"),
        ("base", metadata.get("base_name") or "not said"),
        ("called by", _with_meaning(metadata)),
        ("changes", _changes(header)),
    ]
    if tokens:
        words = counted(tokens, "word")
        facts.append(("embeddings", f"{words}, {counted(layers, 'layer')} of {width} values"))
    if RESIDUAL in header.shapes:
        vectors, each = (*header.shapes[RESIDUAL], 0, 0)[:2]
        facts.append(("residual", f"{counted(vectors, 'vector')} of {each} values"))
    if settings:
        steps = settings.get("steps", "?")
        size = f"{settings.get('width', '?')} x {settings.get('height', '?')}"
        facts.append(("trained", f"{steps} steps at {size}"))
    return facts


def _with_meaning(metadata: Mapping[str, str]) -> str:
    means = metadata.get("trigger_words") or metadata.get("class_word")
    return f"{called_by(metadata)}{f' ({means})' if means else ''}"


def _of_foreign(header: Header) -> Facts:
    names, metadata = list(header.shapes), header.metadata
    if any(name.split(".")[0] in _VECTORS for name in names):
        return [
            ("is", "a textual inversion"),
            ("base", _base(header)),
            ("holds", _vectors(header)),
        ]
    if not is_lora(names):
        part = whole_part(names) or "tensors of no kind that is known here"
        return [("is", part), ("base", _base(header))]
    facts = [
        ("is", f"{_kinds(header)}, as {_program(names)} names it"),
        ("base", _base(header)),
        ("called by", _trigger(metadata)),
        ("changes", _changes(header)),
    ]
    told = {
        "title": metadata.get("modelspec.title") or metadata.get("ss_output_name"),
        "steps": metadata.get("ss_steps") or metadata.get("ss_max_train_steps"),
        "resolution": metadata.get("modelspec.resolution") or metadata.get("ss_resolution"),
        "date": metadata.get("modelspec.date"),
    }
    return facts + [(label, value) for label, value in told.items() if value]


def _base(header: Header) -> str:
    """The family, told by names, metadata or the width of the text, and the base that is named."""
    widths = {text_width(module, inputs) for module, inputs, _ in _maps(header)} - {None}
    widths |= {shape[-1] for name, shape in header.shapes.items() if name.split(".")[0] in _VECTORS}
    family = (
        family_of(list(header.shapes))
        or family_in(header.metadata)
        or next((_BY_WIDTH[width] for width in widths if width in _BY_WIDTH), None)
        or (f"a Stable Diffusion with text {widths.pop()} wide" if len(widths) == 1 else None)
        or "not said"
    )
    named = header.metadata.get("ss_sd_model_name") or header.metadata.get("base_model")
    return f"{family} ({named})" if named else family


def _changes(header: Header) -> str:
    """How many maps of each part, and of which rank."""
    maps = _maps(header)
    changed = {module for module, _, _ in maps} | _others(header)
    kinds = Counter(map(map_kind, sorted(changed)))
    ranks = sorted({rank for _, _, rank in maps})
    said = f"; rank {listed([str(rank) for rank in ranks])}" if ranks else ""
    return f"{_counted(kinds)}{said}" if kinds else "nothing"


def _kinds(header: Header) -> str:
    """What the changes are, in words: a file may mix several kinds."""
    names = header.shapes
    kinds = []
    if maps := _maps(header):
        kernels = any(len(names[name]) == 4 and names[name][2:] != (1, 1)
                      for name in names if _DOWN.fullmatch(name))  # fmt: skip
        kinds.append("LoCon" if kernels else "LoRA")
    kinds += dict.fromkeys(said for mark, said in _MARKS if any(mark in name for name in names))
    magnitudes = {match["module"] for match in map(_DORA.fullmatch, names) if match}
    if magnitudes and maps:
        kinds[0] = "DoRA" if kinds[0] == "LoRA" else "DoRA of LoCon"
    elif magnitudes:
        kinds[0] = f"DoRA of {kinds[0]}"
    return " and ".join(kinds) or "LoRA"


def _others(header: Header) -> set[str]:
    """The maps that are changed by other means than LoRA pairs."""
    return {match["module"] for match in map(_OTHER.fullmatch, header.shapes) if match}


def _counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{counted(number, 'map')} of {kind}" for kind, number in kinds.items())


def _maps(header: Header) -> list[tuple[str, int, int]]:
    """The maps that LoRA pairs change: name, inputs, rank."""
    found = []
    for name in sorted(header.shapes):
        match, shape = _DOWN.fullmatch(name), header.shapes[name]
        if match and len(shape) >= 2:
            found.append((match["module"], shape[1], shape[0]))
    return found


def _program(names: Sequence[str]) -> str:
    if any(name.startswith("lora_") for name in names):
        return "kohya"
    if any(name.startswith("base_model.model.") for name in names):
        return "PEFT"
    if any(name.startswith("diffusion_model.") for name in names):
        return "ComfyUI"
    return "diffusers"


def _trigger(metadata: Mapping[str, str]) -> str:
    """What the metadata says that calls a LoRA: its trigger phrase, or its commonest tags."""
    phrase = metadata.get("modelspec.trigger_phrase")
    if phrase:
        return phrase
    tags: Counter[str] = Counter()
    try:
        for counts in json.loads(metadata.get("ss_tag_frequency", "{}")).values():
            tags.update({tag.strip(): int(number) for tag, number in counts.items()})
    except (ValueError, AttributeError, TypeError):
        tags.clear()
    if not tags:
        return "not said: whoever made it knows the trigger words"
    shown = [f"{tag} ({number})" for tag, number in tags.most_common(8)]
    return f"not said; the commonest tags of its training: {', '.join(shown)}"


def _vectors(header: Header) -> str:
    return ", ".join(
        f"{counted(_product(shape[:-1]), 'vector')} of {shape[-1]} values"
        for shape in header.shapes.values()
        if shape
    )


def _product(shape: Sequence[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
