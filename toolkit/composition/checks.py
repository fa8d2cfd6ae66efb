"""What must be right with a layout before anything is made."""

import logging
from collections.abc import Mapping
from itertools import combinations

from toolkit.base import Base
from toolkit.composition.cells import cells_of
from toolkit.composition.conditioning import check_layout, check_prompts
from toolkit.composition.controls import check_conditions
from toolkit.composition.layout import Layout
from toolkit.concept import Concept

log = logging.getLogger(__name__)


def check(layout: Layout, base: Base, concepts: Mapping[str, Concept]) -> None:
    """Raise InputError for a layout this base cannot make; warn of boxes closer than a cell."""
    check_layout(layout, base)
    for name in layout.concepts:
        concepts[name].check_fits(base)
    check_prompts(layout, base, concepts)
    check_conditions(layout, base)
    rows, columns = base.guidance_cells(layout.width, layout.height)
    for first, second in combinations(layout.regions, 2):
        a, b = cells_of(first.box, rows, columns), cells_of(second.box, rows, columns)
        assert a is not None and b is not None
        apart_x = max(a.left, b.left) - min(a.right, b.right)
        apart_y = max(a.top, b.top) - min(a.bottom, b.bottom)
        if max(apart_x, apart_y) < 1:
            log.warning(
                "layout %s: the boxes of %s and %s are less than a cell apart; they may blend",
                layout.name,
                first.concept,
                second.concept,
            )
