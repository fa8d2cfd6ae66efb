"""Rows, intervals and files."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.evaluation.figures import score_figure
from toolkit.evaluation.table import (
    ScoreRow,
    difference_interval,
    mean_interval,
    table,
    write_rows,
)

ROW = ScoreRow("ours", "mini", "scene", 0, "dog", "clip", 2, 0.8, None, False, True, 0.5)


def rows(method: str, values: list[float]) -> list[ScoreRow]:
    """A picture with two concepts for each value, which is their mean."""
    return [
        replace(ROW, method=method, seed=seed, concept=name, image_similarity=value + off)
        for seed, value in enumerate(values)
        for name, off in (("dog", 0.1), ("cat", -0.1))
    ]


def test_the_file_has_the_promised_columns_and_leaves_out_what_has_no_meaning(
    tmp_path: Path,
) -> None:
    write_rows([ROW], tmp_path / "scores.csv")
    (line,) = csv.DictReader((tmp_path / "scores.csv").open())
    columns = "method model layout seed concept judge regions image_similarity text_similarity"
    more = "collapsed whole_similarity scr_40 scr_50 scr_60"
    assert (
        " ".join(line) == f"{columns} vanished confused placement strangeness spoilt outside {more}"
    )
    assert (line["text_similarity"], line["vanished"], line["confused"]) == ("", "0", "1")


def test_the_interval_is_over_pictures_not_over_concepts() -> None:
    found = mean_interval(rows("ours", [0.5] * 6), "image_similarity", 500)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_interval_covers_the_mean_and_narrows_with_more_pictures() -> None:
    few = mean_interval(rows("ours", [0.2, 0.8] * 4), "image_similarity", 2000)
    many = mean_interval(rows("ours", [0.2, 0.8] * 64), "image_similarity", 2000)
    assert few is not None and many is not None
    assert few.low < 0.5 < few.high
    assert many.high - many.low < (few.high - few.low) / 2
    # the mean of n fair draws of 0.2 and 0.8 has deviation 0.3 / sqrt(n)
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.3 / 128**0.5, rel=0.1)


def test_differences_are_taken_picture_by_picture() -> None:
    ours, theirs = rows("ours", [0.3, 0.9, 0.5]), rows("theirs", [0.2, 0.8, 0.4, 0.0])
    gap = difference_interval(ours, theirs, "image_similarity", 500)
    assert gap is not None
    assert (gap.mean, gap.low, gap.high) == pytest.approx((0.1, 0.1, 0.1))
    assert gap.excludes_zero


def test_a_score_without_values_has_no_interval() -> None:
    assert mean_interval([ROW], "text_similarity", 10) is None


def test_the_table_names_every_method_and_the_gap_to_the_first() -> None:
    shown = table([*rows("ours", [0.6, 0.7]), *rows("theirs", [0.2, 0.3])], 200)
    assert "ours - theirs: image similarity 0.400" in shown
    assert "judge clip" in shown and "of one picture" not in shown
    assert "of one picture: an interval needs more" in table(rows("ours", [0.6]), 200)


def test_scores_are_told_by_the_number_of_concepts() -> None:
    three = [replace(row, layout="three", regions=3) for row in rows("ours", [0.2])]
    shown = table([*rows("ours", [0.6]), *three, *rows("theirs", [0.4])], 50).splitlines()
    start = next(n for n, line in enumerate(shown) if "image similarity, by concepts" in line)
    assert [line.split() for line in shown[start : start + 3]] == [
        ["image", "similarity,", "by", "concepts", "2", "3"],
        ["ours", "0.600", "0.200"],
        ["theirs", "0.400", "-"],
    ]


def test_a_judge_has_only_the_columns_it_gives() -> None:
    clean = replace(ROW, judge="clean", image_similarity=None, vanished=None, confused=None)
    clean = replace(clean, placement=None, strangeness=1.5, spoilt=True, outside=0.25)
    shown = table([ROW, clean], 50).splitlines()
    heads = {line.split()[1]: line for line in shown if line.startswith("judge")}
    assert "strangeness" in heads["clean:"] and "similarity" not in heads["clean:"]
    assert "similarity" in heads["clip:"] and "spoilt" not in heads["clip:"]


@pytest.mark.parametrize("judges", [("clip",), ("clip", "imagenet")])
def test_the_chart_has_the_first_method_on_top(judges: tuple[str, ...]) -> None:
    every = [
        replace(row, judge=judge)
        for judge in judges
        for row in rows("ours", [0.5]) + rows("theirs", [0.4])
    ]
    figure = score_figure(every, 100)
    assert all(axis.yaxis_inverted() for axis in figure.axes)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ours", "theirs"]
