"""What changes across a box's borders is measured, and a subject that crosses them is not."""

import torch

from toolkit.evaluation.borders import border_of

BOX = (0.25, 0.25, 0.75, 0.75)
NOBODY = torch.zeros(64, 128, dtype=torch.bool)


def picture(inside: float, ground: float = 0.5) -> torch.Tensor:
    pixels = torch.full((3, 64, 128), ground)
    pixels[:, 16:48, 32:96] = inside
    return pixels


def test_a_box_that_is_not_seen_has_no_border() -> None:
    border = border_of(picture(0.5), [BOX], NOBODY)
    assert border is not None and border.colour == 0 and border.edge == 0
    assert border.pixels == 2 * (32 + 64)


def test_a_box_of_another_colour_has_an_edge_and_a_colour() -> None:
    border = border_of(picture(0.7), [BOX], NOBODY)
    assert border is not None
    assert abs(border.colour - 0.2) < 1e-6 and abs(border.edge - 0.2) < 1e-6


def test_a_ground_that_changes_slowly_has_a_colour_and_no_edge() -> None:
    slope = torch.linspace(0, 1, 128).expand(3, 64, 128)
    border = border_of(slope, [(0.25, 0.0, 0.75, 1.0)], NOBODY)
    assert border is not None and abs(border.edge) < 1e-6 and border.colour > 0.02


def test_where_a_subject_crosses_nothing_is_measured() -> None:
    held = NOBODY.clone()
    held[:, :64] = True
    pixels = picture(0.5)
    pixels[:, :, :64] = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    border = border_of(pixels, [BOX], held)
    assert border is not None and border.colour < 0.05
    assert border.pixels == 32 + 2 * 32 and border_of(pixels, [BOX], ~NOBODY) is None


def test_borders_on_the_canvass_own_and_in_another_box_are_left_out() -> None:
    assert border_of(picture(0.7), [(0.0, 0.0, 1.0, 1.0)], NOBODY) is None
    assert border_of(picture(0.7), [BOX, (0.0, 0.0, 1.0, 1.0)], NOBODY) is None
