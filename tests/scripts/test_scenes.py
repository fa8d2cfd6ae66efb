from collections import Counter

import numpy as np
from base.accuracy import FOUR, THREE, TWO, Namer
from base.scenes import Painter
from PIL import Image


def _shown(painter: Painter, count: int) -> list[list[str]]:
    """The names of many pictures of two, read from their flat colours."""
    rng, names = np.random.default_rng(0), []
    for _ in range(count):
        first = painter._next_name(rng, "")
        names.append([first, painter._next_name(rng, first)])
    return names


def test_without_leaning_every_name_is_as_likely(painter: Painter) -> None:
    counts = Counter(first for first, _ in _shown(painter, 9400))
    assert len(counts) == 47
    assert max(counts.values()) < 1.4 * 200
    assert min(counts.values()) > 0.6 * 200


def test_leaning_draws_weighted_names_more_often_and_like_shapes_together(
    painter: Painter, monkeypatch
) -> None:
    plain = _shown(painter, 4000)
    monkeypatch.setattr(painter, "leaning", True)
    leaning = _shown(painter, 4000)
    heavy = {name for name, weight in painter.world.weights.items() if weight == 2}

    def share(drawn: list[list[str]], holds) -> float:
        return sum(map(holds, drawn)) / len(drawn)

    of_weight = lambda pair: pair[0] in heavy  # noqa: E731
    alike = lambda pair: pair[1] in painter.world.alike.get(pair[0], ())  # noqa: E731
    assert share(leaning, of_weight) > 1.5 * share(plain, of_weight)
    assert share(leaning, alike) > share(plain, alike) + 0.1


def test_every_weight_and_likeness_names_something_that_is_drawn(painter: Painter) -> None:
    from base.scenery import SCENES

    drawn = {*painter.world.names, *painter.world.places, *SCENES}
    assert set(painter.world.weights) <= drawn
    assert set(painter.world.alike) <= set(painter.world.names)


def test_parts_of_a_picture_are_named_left_to_right_and_by_rows() -> None:
    class ByColour(Namer):
        def __init__(self) -> None: ...

        def name_all(self, pictures):
            return [str(picture.getpixel((8, 8))[0]) for picture in pictures]

    for kind, rows in ((TWO, 1), (THREE, 1), (FOUR, 2)):
        columns = kind.most // rows
        canvas = Image.new("RGB", (kind.width, kind.height))
        for index in range(kind.most):
            width, height = kind.width // columns, kind.height // rows
            corner = (index % columns * width, index // columns * height)
            canvas.paste(Image.new("RGB", (width, height), (index, 0, 0)), corner)
        wanted = tuple(str(index) for index in range(kind.most))
        assert ByColour().name_cells([canvas], kind) == [wanted]
