"""What a LoRA's product is multiplied with, as PEFT's and diffusers' settings tell it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft.utils.other import get_pattern_key

from toolkit.backbones import Part
from toolkit.errors import InputError
from toolkit.text.json_values import read_json

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_OTHER_METHODS = {
    "use_dora": "a DoRA",
    "use_qalora": "a QALoRA",
    "alora_invocation_tokens": "an aLoRA",
    "layer_replication": "a LoRA of repeated layers",
    "modules_to_save": "a LoRA with whole layers beside it",
    "lora_bias": "a LoRA that was trained with bias",
}


@dataclass(frozen=True)
class AdapterScale:
    """How PEFT scales the products of one network.

    alpha: None is each map's rank. by_map: alphas of maps that a pattern names.
    root: divide by the rank's square root and not by the rank (rsLoRA).
    """

    alpha: float | None = None
    by_map: Mapping[str, float] = field(default_factory=dict)
    root: bool = False

    def of(self, module: str, rank: int) -> float:
        """The factor of one map, whose LoRA has this rank."""
        alpha = self.by_map.get(get_pattern_key(list(self.by_map), module), self.alpha)
        return 1.0 if alpha is None else alpha / (math.sqrt(rank) if self.root else rank)


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
    if kind != "LORA":
        raise InputError(f"{where}: it is a {kind}; only plain LoRAs can be read")
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise InputError(
            f"{where}: init_lora_weights={start} changes the base's own weights: convert it to a "
            "plain LoRA when saving it in PEFT"
        )
    for key, method in _OTHER_METHODS.items():
        if settings.get(key):
            raise InputError(f"{where}: it is {method} ({key}); only plain LoRAs can be read")
    root = settings.get("use_rslora") or False
    if not isinstance(root, bool):
        raise InputError(f"{where}: use_rslora {root!r}: must be true or false")
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(patterns, Mapping):
        raise InputError(f"{where}: alpha_pattern {patterns!r}: must hold names and numbers")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"{where}: alpha_pattern {pattern!r}: {error}") from error
    alpha = settings.get("lora_alpha")
    return AdapterScale(
        alpha=None if alpha is None else _number(alpha, f"{where}: lora_alpha"),
        by_map={key: _number(value, f"{where}: {key}") for key, value in patterns.items()},
        root=root,
    )


def _number(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"{where} {value!r}: must be a number")
    try:
        return float(value)
    except OverflowError as error:
        raise InputError(f"{where}: is too large for a number") from error
