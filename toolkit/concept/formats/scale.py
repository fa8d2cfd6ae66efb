"""What a change is multiplied with, as PEFT's and diffusers' settings tell it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft.utils.other import get_pattern_key

from toolkit.backbones import Part
from toolkit.concept.formats.keys import KINDS
from toolkit.errors import InputError
from toolkit.text.json_values import read_json

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_KINDS = ("LORA", "LOHA", "LOKR", "IA3")
_OTHER_METHODS = {
    "use_qalora": "a QALoRA",
    "alora_invocation_tokens": "an aLoRA",
    "layer_replication": "a LoRA of repeated layers",
    "modules_to_save": "a LoRA with whole layers beside it",
}


@dataclass(frozen=True)
class AdapterScale:
    """How PEFT scales the products of one network.

    alpha: None is each map's rank. by_map: alphas of maps that a pattern names.
    root: divide by the rank's square root and not by the rank (rsLoRA).
    rank, ranks: of maps, as alphas, where their matrices do not tell it; None: not said.
    input_maps: the maps whose input (IA)^3 multiplies: a pattern, or the ends of their paths.
    """

    alpha: float | None = None
    by_map: Mapping[str, float] = field(default_factory=dict)
    root: bool = False
    rank: float | None = None
    ranks: Mapping[str, float] = field(default_factory=dict)
    input_maps: str | tuple[str, ...] = ()

    def of(self, module: str, rank: int | None) -> float:
        """The factor of one map, whose products have this rank; None: as the settings say."""
        alpha = self.by_map.get(get_pattern_key(list(self.by_map), module), self.alpha)
        told = self.ranks.get(get_pattern_key(list(self.ranks), module), self.rank)
        over = told if rank is None else rank
        if alpha is None or not over:
            return 1.0
        return alpha / (math.sqrt(over) if self.root else over)

    def multiplies_input(self, module: str) -> bool:
        """Whether (IA)^3 multiplies what this map is given, and not what it gives."""
        if isinstance(self.input_maps, str):
            return re.fullmatch(self.input_maps, module) is not None
        return any(module == end or module.endswith(f".{end}") for end in self.input_maps)


def scales_of(
    metadata: Mapping[str, str], adapter: Mapping[str, Any], path: Path
) -> dict[Part, AdapterScale]:
    """The scale of each network, by diffusers' metadata in the file or else by PEFT's config.

    Raises InputError for settings of the wrong type, and for those of other methods than LoRA.
    """
    told = metadata.get("lora_adapter_metadata")
    if not told:
        where = str(path.with_name("adapter_config.json"))
        return {part: _scale(adapter, where) for part in Part}
    where = f"{path}, its LoRA metadata"
    content = read_json(told, where)
    if not isinstance(content, dict):
        raise InputError(f"{where}: must be a JSON object")
    prefixed = any(key.startswith(f"{part}.") for key in content for part in Part)
    scales = {}
    for part in Part:
        own = {
            key.removeprefix(f"{part}."): value
            for key, value in content.items()
            if key.startswith(f"{part}.") or not prefixed
        }
        scales[part] = _scale(own or adapter, where)
    return scales


def _scale(settings: Mapping[str, Any], where: str) -> AdapterScale:
    kind = settings.get("peft_type") or "LORA"
    if kind not in _KINDS:
        raise InputError(f"{where}: it is a {kind}; only {KINDS} can be read")
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise InputError(
            f"{where}: init_lora_weights={start} changes the base's own weights: convert it to a "
            "plain LoRA when saving it in PEFT"
        )
    for key, method in _OTHER_METHODS.items():
        if settings.get(key):
            raise InputError(f"{where}: it is {method} ({key}); only {KINDS} can be read")
    root = settings.get("use_rslora") or False
    if not isinstance(root, bool):
        raise InputError(f"{where}: use_rslora {root!r}: must be true or false")
    name = "lora_alpha" if kind == "LORA" else "alpha"
    alpha, rank = settings.get(name), settings.get("r")
    return AdapterScale(
        alpha=None if alpha is None else _number(alpha, f"{where}: {name}"),
        by_map=_by_map(settings, "alpha_pattern", where),
        root=root,
        rank=None if rank is None else _number(rank, f"{where}: r"),
        ranks=_by_map(settings, "rank_pattern", where),
        input_maps=_input_maps(settings, where),
    )


def _by_map(settings: Mapping[str, Any], key: str, where: str) -> dict[str, float]:
    """Numbers by patterns of the maps' paths."""
    patterns = settings.get(key) or {}
    if not isinstance(patterns, Mapping):
        raise InputError(f"{where}: {key} {patterns!r}: must hold names and numbers")
    for pattern in patterns:
        _check_pattern(pattern, f"{where}: {key}")
    return {name: _number(value, f"{where}: {name}") for name, value in patterns.items()}


def _input_maps(settings: Mapping[str, Any], where: str) -> str | tuple[str, ...]:
    maps = settings.get("feedforward_modules") or ()
    if isinstance(maps, str):
        _check_pattern(maps, f"{where}: feedforward_modules")
        return maps
    if not all(isinstance(one, str) for one in maps):
        raise InputError(f"{where}: feedforward_modules {maps!r}: must be names")
    return tuple(maps)


def _check_pattern(pattern: str, where: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(f"{where} {pattern!r}: {error}") from error


def _number(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"{where} {value!r}: must be a number")
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(f"{where}: is too large for a number") from error
