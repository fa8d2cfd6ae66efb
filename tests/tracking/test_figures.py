from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sample_layouts import PAIR

from toolkit.layout.layout import Layout, Region
from toolkit.tracking.figures import RefinedStep, attention_figure


def test_a_figure_says_whose_attention_it_is_and_marks_what_lies_in_anothers_box() -> None:
    in_left, in_right = torch.zeros(12, 16), torch.zeros(12, 16)
    in_left[4:8, 2:6], in_right[4:8, 10:14] = 1, 1
    good = RefinedStep(0, {"total": 1.0}, (in_left, in_right))
    swapped = RefinedStep(4, {"total": 2.0}, (in_right, in_left))
    figure = attention_figure(None, PAIR, [good, swapped])
    shown = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in figure.axes}
    assert shown["dog, step 0: 100% in its box"] == []
    assert shown["dog, step 4: 0% in its box"] == ["100% here"]
    assert shown["cat, step 4: 0% in its box"] == ["100% here"]
    assert "another concept's box" in figure.get_supxlabel()


def test_a_mask_is_drawn_by_its_outlines(tmp_path: Path) -> None:
    inside = np.zeros((64, 128), dtype=np.uint8)
    inside[8:56, 8:40] = inside[8:24, 96:128] = 255
    Image.fromarray(inside).save(tmp_path / "mask.png")
    region = Region("dog", "<dog>", mask=tmp_path / "mask.png")
    step = RefinedStep(0, {"total": 1.0}, (torch.ones(8, 16),))
    layout = Layout("one", "a dog", 128, 64, (region,))
    figure = attention_figure(None, layout, [step])
    (outlines,) = figure.axes[1].collections[0].get_paths()
    islands = [np.asarray(one) for one in outlines.to_polygons(closed_only=False)]
    found = sorted([*one.min(axis=0), *one.max(axis=0)] for one in islands)
    expected = [[0.0625, 0.125, 0.3125, 0.875], [0.75, 0.125, 1.0, 0.375]]
    assert np.allclose(found, expected, atol=0.01)
