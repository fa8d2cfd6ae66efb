"""What a person looks at: a chart of the scores, and every method's pictures side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from toolkit.evaluation.table import ScoreRow, head_of, mean_interval, scores_of

_GAP = 6  # pixels
_LABEL = 120


def score_figure(rows: Sequence[ScoreRow], resamples: int) -> Figure:
    """Each method's mean and interval: a row of panels for each judge, a panel for each score."""
    judges = list(dict.fromkeys(row.judge for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    scores = scores_of(rows)
    size = (max(3.0 * len(scores), 6.0), (0.9 + 0.35 * len(methods)) * len(judges))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(judges), len(scores), squeeze=False, sharey=True)
    for line, judge in zip(panels, judges, strict=True):
        for axis, score in zip(line, scores, strict=True):
            for place, method in enumerate(methods):
                own = [row for row in rows if (row.judge, row.method) == (judge, method)]
                found = mean_interval(own, score, resamples)
                if found is not None:
                    error = [[found.mean - found.low], [found.high - found.mean]]
                    axis.barh(place, found.mean, xerr=error, color="#17bebb", height=0.7)
            axis.set_yticks(range(len(methods)), methods, fontsize=8)
            axis.set_title(f"{head_of(score)} ({judge})", fontsize=9)
            axis.tick_params(axis="x", labelsize=8)
    panels[0][0].invert_yaxis()  # of all: they share it
    return figure


def contact_sheet(pictures: Mapping[tuple[str, int], Path]) -> Image.Image:
    """One layout's pictures: a row for each method, a column for each seed.

    pictures: by (method, seed); one that is missing leaves its place white.
    """
    methods = list(dict.fromkeys(method for method, _ in pictures))
    seeds = sorted({seed for _, seed in pictures})
    opened = {key: Image.open(path).convert("RGB") for key, path in pictures.items()}
    width = max(picture.width for picture in opened.values())
    height = max(picture.height for picture in opened.values())
    sheet = Image.new(
        "RGB",
        (_LABEL + len(seeds) * (width + _GAP), 20 + len(methods) * (height + _GAP)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for column, seed in enumerate(seeds):
        draw.text((_LABEL + column * (width + _GAP) + 2, 3), f"seed {seed}", "black", font)
    for row, method in enumerate(methods):
        top = 20 + row * (height + _GAP)
        draw.text((4, top + height // 2 - 8), method, "black", font)
        for column, seed in enumerate(seeds):
            if (method, seed) in opened:
                left = _LABEL + column * (width + _GAP)
                sheet.paste(opened[method, seed], (left, top))
    return sheet
