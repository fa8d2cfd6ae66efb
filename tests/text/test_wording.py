import pytest

from toolkit.text.wording import lasting


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (20, "less than a minute"),
        (50, "about 1 minute"),
        (61 * 60, "about 61 minutes"),
        (2.5 * 3600, "about 2.5 hours"),
    ],
)
def test_a_length_of_time_is_told_as_people_say_it(seconds: float, said: str) -> None:
    assert lasting(seconds) == said
