"""Each formula against a case worked out by hand."""

import math

import pytest
import torch

from toolkit.evaluation.scores import (
    image_similarity,
    is_confused,
    overlap,
    placement,
    text_similarity,
    threshold_above,
    windows,
)

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def test_image_similarity_is_the_mean_cosine_with_opposites_counted_as_zero() -> None:
    half = [math.sqrt(0.5), math.sqrt(0.5)]
    similarity = image_similarity(torch.tensor([EAST, half]), torch.tensor([EAST, NORTH, WEST]))
    assert similarity.tolist() == pytest.approx([1 / 3, 2 * math.sqrt(0.5) / 3])


def test_text_similarity_is_two_and_a_half_cosines() -> None:
    similarity = text_similarity(torch.tensor([EAST, EAST]), torch.tensor([[0.6, 0.8], WEST]))
    assert similarity.tolist() == pytest.approx([1.5, 0.0])


def test_a_region_is_confused_only_when_another_concept_is_likelier() -> None:
    assert is_confused(0.5, [0.2, 0.6])
    assert not is_confused(0.5, [0.2, 0.5])
    assert not is_confused(0.5, [])


def test_windows_start_with_the_box_and_cover_the_canvas() -> None:
    box = (0.1, 0.2, 0.35, 0.7)
    found = windows(box, [])
    assert found[0] == box
    assert {w[0] for w in found} >= {0.0, 0.75} and {w[1] for w in found} >= {0.0, 0.5}
    for x0, y0, x1, y1 in found:
        assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
        assert x1 - x0 == pytest.approx(0.25) and y1 - y0 == pytest.approx(0.5)


def test_windows_leave_out_the_other_boxes_of_a_concept() -> None:
    found = windows((0.0, 0.0, 0.4, 1.0), [(0.5, 0.0, 1.0, 1.0)])
    assert found and all((x0 + x1) / 2 < 0.5 for x0, _, x1, _ in found)


def test_a_box_as_large_as_the_canvas_has_one_window() -> None:
    assert set(windows((0.0, 0.0, 1.0, 1.0), [])) == {(0.0, 0.0, 1.0, 1.0)}


def test_overlap_is_a_share_of_the_window() -> None:
    assert overlap((0.0, 0.0, 0.5, 0.5), (0.25, 0.0, 1.0, 1.0)) == pytest.approx(0.5)
    assert overlap((0.0, 0.0, 0.2, 0.2), (0.5, 0.5, 1.0, 1.0)) == 0.0


def test_placement_is_what_of_the_likeliest_window_lies_in_the_box() -> None:
    box = (0.0, 0.0, 0.5, 1.0)
    candidates = [box, (0.25, 0.0, 0.75, 1.0), (0.5, 0.0, 1.0, 1.0)]
    assert placement(torch.tensor([0.9, 0.3, 0.1]), candidates, box) == 1.0
    assert placement(torch.tensor([0.3, 0.9, 0.1]), candidates, box) == pytest.approx(0.5)
    assert placement(torch.tensor([0.3, 0.1, 0.9]), candidates, box) == 0.0


def test_the_threshold_lets_one_in_twenty_of_what_is_absent_pass() -> None:
    absent = torch.linspace(0, 1, 1001)
    threshold = threshold_above(absent)
    assert (absent > threshold).float().mean().item() == pytest.approx(0.05, abs=0.002)
