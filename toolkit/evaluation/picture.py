"""One composed picture, concept by concept, through the eyes of one judge."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from toolkit.concept import Concept
from toolkit.evaluation.calibration import Calibration, Portraits
from toolkit.evaluation.judges import Judge
from toolkit.evaluation.pixels import crop
from toolkit.evaluation.scores import (
    image_similarity,
    is_confused,
    placement,
    text_similarity,
    windows,
)
from toolkit.layout.areas import bounds_of
from toolkit.layout.layout import Layout, Region


@dataclass(frozen=True)
class RegionScores:
    """The scores of one region, or of the background concept; None where one has no meaning."""

    concept: str
    image_similarity: float
    text_similarity: float | None
    vanished: bool | None = None
    confused: bool | None = None
    placement: float | None = None


def score_picture(
    judge: Judge,
    path: Path,
    layout: Layout,
    concepts: Mapping[str, Concept],
    seen: Mapping[str, Portraits],
    calibration: Calibration | None,
) -> list[RegionScores]:
    """Scores of every region in turn, after those of the background concept where there is one.

    calibration: None for a judge that is asked for similarities only.

    A region is scored on its bounding box, cut out of the picture. It has vanished when that looks
    less like the subject than the judge's threshold. It is confused when another concept of the
    layout is there by that concept's threshold, and the box looks more like it than like its own.
    """
    picture = Image.open(path).convert("RGB")
    found = []
    if layout.background:
        concept = concepts[layout.background]
        found.append(_similarities(judge, picture, concept, layout.prompt, seen))
    for region in layout.regions:
        concept = concepts[region.concept]
        scores = _similarities(
            judge, crop(picture, bounds_of(region)), concept, region.prompt, seen
        )
        if calibration is not None:
            scores = _with_presence(scores, judge, picture, region, layout, seen, calibration)
        found.append(scores)
    return found


def _similarities(
    judge: Judge,
    shown: Image.Image,
    concept: Concept,
    prompt: str,
    seen: Mapping[str, Portraits],
) -> RegionScores:
    embedding = judge.images([shown])
    texts = judge.texts([f"A photo depicts {concept.describe(prompt)}"])
    return RegionScores(
        concept=concept.name,
        image_similarity=float(image_similarity(embedding, seen[concept.name].references)[0]),
        text_similarity=None if texts is None else float(text_similarity(embedding, texts)[0]),
    )


def _with_presence(
    scores: RegionScores,
    judge: Judge,
    picture: Image.Image,
    region: Region,
    layout: Layout,
    seen: Mapping[str, Portraits],
    calibration: Calibration,
) -> RegionScores:
    name, thresholds = region.concept, calibration.thresholds
    own_box = bounds_of(region)
    same = [o for o in layout.regions if o is not region and o.concept == name]
    candidates = windows(own_box, [bounds_of(other) for other in same])
    embeddings = judge.images([crop(picture, window) for window in candidates])
    box, evidence = embeddings[:1], seen[name].evidence(embeddings)
    others = {other.concept for other in layout.regions} - {name}
    rivals = {other: float(seen[other].evidence(box)[0]) for other in others}
    there = [value for other, value in rivals.items() if value > thresholds.get(other, -1.0)]
    own = float(evidence[0])
    return replace(
        scores,
        vanished=own <= thresholds[name] if name in thresholds else None,
        confused=is_confused(own, there) if rivals else None,
        placement=placement(evidence, candidates, own_box),
    )
