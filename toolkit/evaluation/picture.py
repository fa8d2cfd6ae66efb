"""Composed pictures, concept by concept, through the eyes of one judge."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from torch import Tensor

from toolkit.concept import Concept
from toolkit.evaluation.calibration import Calibration, Portraits
from toolkit.evaluation.judges import Judge
from toolkit.evaluation.pixels import crop
from toolkit.evaluation.scores import (
    has_collapsed,
    image_similarity,
    is_confused,
    placement,
    text_similarity,
    whole_similarity,
    windows,
)
from toolkit.layout.areas import bounds_of
from toolkit.layout.layout import Box, Layout, Region

_TOGETHER = 16
"""Pictures whose crops are embedded together."""


@dataclass(frozen=True)
class RegionScores:
    """The scores of one region, or of the background concept; None where one has no meaning.

    collapsed: vanished, or confused. whole_similarity, scr: the Subject Collapse Rate's similarity,
    and whether it lies below each of COLLAPSE_LINES.
    """

    concept: str
    image_similarity: float
    text_similarity: float | None
    vanished: bool | None = None
    confused: bool | None = None
    placement: float | None = None
    whole_similarity: float | None = None
    scr: tuple[bool, ...] | None = None

    @property
    def collapsed(self) -> bool | None:
        """Whether the box does not show its own subject: none, or another's."""
        said = [flag for flag in (self.vanished, self.confused) if flag is not None]
        return any(said) if said else None


@dataclass(frozen=True)
class _View:
    """What is looked at of a picture for one concept.

    region: None for the background concept. boxes: what is cut out, the concept's own first; None
    stands for the whole picture.
    """

    concept: Concept
    prompt: str
    region: Region | None
    boxes: tuple[Box | None, ...]


def score_pictures(
    judge: Judge,
    pictures: Sequence[tuple[Path, Layout]],
    concepts: Mapping[str, Concept],
    seen: Mapping[str, Portraits],
    calibration: Calibration | None,
) -> Iterator[list[RegionScores]]:
    """For each picture the scores of its regions in turn, after those of the background concept.

    calibration: None for a judge that is asked for similarities only.

    A region is scored on its bounding box, cut out of the picture. It has vanished when that looks
    less like the subject than the judge's threshold. It is confused when another concept of the
    layout is there by that concept's threshold, and the box looks more like it than like its own.
    """
    for start in range(0, len(pictures), _TOGETHER):
        some = pictures[start : start + _TOGETHER]
        views = [_views(judge, layout, concepts, calibration) for _, layout in some]
        crops = []
        for (path, _), own in zip(some, views, strict=True):
            picture = Image.open(path).convert("RGB")
            crops += [crop(picture, box) if box else picture for view in own for box in view.boxes]
        embeddings = iter(judge.images(crops).split([len(v.boxes) for own in views for v in own]))
        texts = _texts(judge, [view for own in views for view in own])
        for (_, layout), own in zip(some, views, strict=True):
            yield [
                _scores(view, next(embeddings), next(texts), layout, seen, calibration)
                for view in own
            ]


def _views(
    judge: Judge,
    layout: Layout,
    concepts: Mapping[str, Concept],
    calibration: Calibration | None,
) -> list[_View]:
    found = []
    if layout.background:
        found.append(_View(concepts[layout.background], layout.prompt, None, (None,)))
    for region in layout.regions:
        boxes: list[Box | None] = [bounds_of(region)]
        if calibration is not None:
            boxes = [*_candidates(region, layout)]
        if judge.tells_collapse:
            boxes.append(None)
        found.append(_View(concepts[region.concept], region.prompt, region, tuple(boxes)))
    return found


def _candidates(region: Region, layout: Layout) -> list[Box]:
    """Where the region's subject might stand; its box first."""
    same = [o for o in layout.regions if o is not region and o.concept == region.concept]
    return windows(bounds_of(region), [bounds_of(other) for other in same])


def _texts(judge: Judge, views: Sequence[_View]) -> Iterator[Tensor | None]:
    """For each view (1, dim), or None from a judge that reads no text."""
    said = [f"A photo depicts {view.concept.describe(view.prompt)}" for view in views]
    embedded = judge.texts(said)
    yield from (None for _ in views) if embedded is None else embedded.split(1)


def _scores(
    view: _View,
    embeddings: Tensor,
    text: Tensor | None,
    layout: Layout,
    seen: Mapping[str, Portraits],
    calibration: Calibration | None,
) -> RegionScores:
    """embeddings: (boxes, dim)."""
    own = seen[view.concept.name]
    box = embeddings[:1]
    scores = RegionScores(
        concept=view.concept.name,
        image_similarity=float(image_similarity(box, own.references)[0]),
        text_similarity=None if text is None else float(text_similarity(box, text)[0]),
    )
    if view.region is None:
        return scores
    if view.boxes[-1] is None:
        whole = float(whole_similarity(embeddings[-1:], own.references)[0])
        scores = replace(scores, whole_similarity=whole, scr=has_collapsed(whole))
        embeddings = embeddings[:-1]
    if calibration is None:
        return scores
    return _with_presence(scores, view.region, embeddings, layout, seen, calibration)


def _with_presence(
    scores: RegionScores,
    region: Region,
    embeddings: Tensor,
    layout: Layout,
    seen: Mapping[str, Portraits],
    calibration: Calibration,
) -> RegionScores:
    """embeddings: (candidates, dim)."""
    name, thresholds = region.concept, calibration.thresholds
    evidence = seen[name].evidence(embeddings)
    others = {other.concept for other in layout.regions} - {name}
    rivals = {other: float(seen[other].evidence(embeddings[:1])[0]) for other in others}
    there = [value for other, value in rivals.items() if value > thresholds.get(other, -1.0)]
    own = float(evidence[0])
    return replace(
        scores,
        vanished=own <= thresholds[name] if name in thresholds else None,
        confused=is_confused(own, there) if rivals else None,
        placement=placement(evidence, _candidates(region, layout), bounds_of(region)),
    )
