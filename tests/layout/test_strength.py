"""A strength may be a schedule: straight lines from the first step to the last."""

import pytest

from toolkit.errors import InputError
from toolkit.layout.layout import Layout
from toolkit.layout.mapping import layout_from_mapping, layout_to_mapping
from toolkit.layout.strength import StrengthSchedule, largest


def layout_with(strength: object) -> Layout:
    region = {"concept": "dog", "prompt": "<dog>", "box": [0, 0, 1, 1], "strength": strength}
    content = {"name": "a", "prompt": "a dog", "width": 64, "height": 64, "regions": [region]}
    return layout_from_mapping(content, "a.yaml")


def test_it_goes_along_straight_lines() -> None:
    schedule = StrengthSchedule(0.0, 0.5, ((0.2, 1.0), (0.6, 0.0)))
    shares = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    expected = (0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5)
    assert [schedule.at(share) for share in shares] == pytest.approx(expected)
    assert largest(schedule) == 1.0 and largest(0.3) == 0.3


@pytest.mark.parametrize(
    "strength", [0.7, {"start": 0.2, "end": 1.0}, {"start": 1.0, "end": 0.0, "points": [[0.5, 1]]}]
)
def test_it_is_read_and_written_as_it_was(strength: object) -> None:
    layout = layout_with(strength)
    written = layout_to_mapping(layout)
    assert written["regions"][0]["strength"] == strength
    assert layout_from_mapping(written, "a.yaml") == layout


@pytest.mark.parametrize(
    ("strength", "said"),
    [
        ({"begin": 1}, "unknown key strength.begin"),
        ({"start": "x"}, "strength.start=x: expected a number"),
        ({"points": [[0.5]]}, "strength.points=.*a list of .share of the steps, strength."),
        ({"points": [[0.0, 1]]}, "shares of the steps that rise, between 0 and 1"),
        ({"points": [[0.5, 1], [0.4, 1]]}, "shares of the steps that rise"),
        ([1, 2], "expected a number, or .start"),
    ],
)
def test_a_wrong_one_is_one_line(strength: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        layout_with(strength)
    assert "\n" not in str(raised.value) and "region 1" in str(raised.value)
