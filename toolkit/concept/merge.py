"""Several concepts added into one set of weights, as other tools do it."""

from collections.abc import Mapping, Sequence

import torch

from toolkit.backbones import Part
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange, together
from toolkit.concept.concept import Concept


def merged(concepts: Sequence[Concept], weights: Sequence[float]) -> Concept:
    """One concept with all tokens of `concepts`, and the weighted sum of their changes.

    A sum of products of ranks r and s is one product of rank r + s, so nothing is lost; changes of
    other kinds stand beside each other, each as it is on the base alone. A concept
    of weight 0 lends its tokens only.
    """
    called = [concept.token_embeddings for concept in concepts if concept.token_names]
    embeddings = {
        part: torch.cat([own[part].float() for own in called]) if called else none
        for part, none in concepts[0].token_embeddings.items()
    }
    acting = [(c, c.scale * w) for c, w in zip(concepts, weights, strict=True) if w]
    changes = {part: _sum([(c.changes[part], scale) for c, scale in acting]) for part in Part}
    return Concept(
        name="merged",
        embeddings=embeddings[Part.TEXT_ENCODER],
        embeddings_2=embeddings.get(Part.TEXT_ENCODER_2),
        token_names=tuple(name for concept in concepts for name in concept.token_names),
        unet={},
        text_encoder={},
    ).with_changes(changes)


def _sum(parts: Sequence[tuple[Mapping[str, MapChange], float]]) -> dict[str, MapChange]:
    paths = dict.fromkeys(path for changes, _ in parts for path in changes)
    summed: dict[str, MapChange] = {}
    for path in paths:
        changes = [own[path].scaled(weight) for own, weight in parts if path in own]
        pairs = [change for change in changes if isinstance(change, LowRank)]
        others = [change for change in changes if not isinstance(change, LowRank)]
        whole: list[MapChange] = []
        if pairs:
            down = torch.cat([pair.down.float() for pair in pairs], dim=0)
            whole = [LowRank(down, torch.cat([pair.up.float() for pair in pairs], dim=1))]
        summed[path] = together([*whole, *others])
    return summed
