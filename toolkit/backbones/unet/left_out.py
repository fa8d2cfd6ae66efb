"""What of a concept does not act inside regions, as the regions attend."""

from collections import Counter
from collections.abc import Iterable

from toolkit.backbones.prompts import Regional
from toolkit.backbones.unet.map_kinds import map_kind
from toolkit.backbones.unet.names import is_of_transformers


def left_out(paths: Iterable[str], regional: Regional) -> dict[str, int]:
    """How many maps of each kind, in words, of these of the U-Net do not act inside regions."""
    if not regional.injection:
        return {}
    kinds: Counter[str] = Counter()
    for path in paths:
        if ".attn1." in path or not is_of_transformers(path):
            if not regional.self_attention:
                kinds[map_kind(path)] += 1
        elif path.endswith(".attn2.to_q") and not regional.queries:
            kinds["cross-attention's queries"] += 1
    return dict(kinds)


def carries_more(paths: Iterable[str]) -> bool:
    """Whether some map of the U-Net at these paths is one that the usual LoRAs leave alone."""
    return not all(map(is_of_transformers, paths))
