"""Several concepts added into one set of weights, as other tools do it."""

from collections.abc import Mapping, Sequence

import torch

from toolkit.backbones.low_rank import LowRank
from toolkit.concept.concept import Concept


def merged(concepts: Sequence[Concept], weights: Sequence[float]) -> Concept:
    """One concept with all tokens of `concepts`, and the weighted sum of their low-rank changes.

    A sum of products of ranks r and s is one product of rank r + s, so nothing is lost. A concept
    of weight 0 lends its tokens only.
    """
    tokens = [concept.embeddings.float() for concept in concepts if concept.token_names]
    acting = [(c, w) for c, w in zip(concepts, weights, strict=True) if w]
    return Concept(
        name="merged",
        embeddings=torch.cat(tokens) if tokens else concepts[0].embeddings,
        token_names=tuple(name for concept in concepts for name in concept.token_names),
        unet=_sum([(c.unet, c.scale * w) for c, w in acting]),
        text_encoder=_sum([(c.text_encoder, c.scale * w) for c, w in acting]),
    )


def _sum(parts: Sequence[tuple[Mapping[str, LowRank], float]]) -> dict[str, LowRank]:
    paths = dict.fromkeys(path for changes, _ in parts for path in changes)
    summed = {}
    for path in paths:
        pairs = [changes[path].scaled(w) for changes, w in parts if path in changes]
        summed[path] = LowRank(
            down=torch.cat([pair.down.float() for pair in pairs], dim=0),
            up=torch.cat([pair.up.float() for pair in pairs], dim=1),
        )
    return summed
