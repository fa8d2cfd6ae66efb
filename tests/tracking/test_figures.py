import torch
from sample_layouts import PAIR

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
