"""Methods that know boxes only say so of regions that are more."""

from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.layout.layout import Layout, Region
from toolkit.methods import Method
from toolkit.methods.cones2 import Cones2
from toolkit.methods.paint_by_example import PaintByExample

BOX = (0.0, 0.0, 0.5, 1.0)
CORNERS = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize("method", [Cones2(), PaintByExample()], ids=lambda method: method.name)
@pytest.mark.parametrize(
    ("key", "region"),
    [
        ("mask", Region("cat", "<cat>", mask=Path("cat.png"))),
        ("polygon", Region("cat", "<cat>", polygon=CORNERS)),
        ("feather", Region("cat", "<cat>", BOX, feather=0.1)),
        ("depth", Region("cat", "<cat>", BOX, depth=1)),
    ],
)
def test_what_is_more_than_a_box_is_refused(method: Method, key: str, region: Region) -> None:
    layout = Layout("own", "a dog and a cat", 128, 64, (Region("dog", "<dog>", BOX), region))
    said = f"layout own, region 2: method={method.name} knows boxes only, .* {key}"
    with pytest.raises(InputError, match=said) as refused:
        method.check(layout)
    assert refused.value.path == f"regions[1].{key}"
