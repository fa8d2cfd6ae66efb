"""What must be right with a layout before anything is made."""

from collections.abc import Mapping
from itertools import combinations

from toolkit.backbones import Backbone
from toolkit.backbones.memory import check_memory
from toolkit.concept import Concept
from toolkit.layout.cells import cells_of
from toolkit.layout.layout import Box, Layout
from toolkit.methods.prompts import check_tokens_differ, remarks_on
from toolkit.methods.reading import own_prompts


def check(layout: Layout, base: Backbone, concepts: Mapping[str, Concept]) -> list[str]:
    """What is odd about a layout, such as boxes closer than a cell, in a line each.

    Raises InputError for one that this base cannot make.
    """
    base.check_layout(layout)
    check_memory(f"layout {layout.name}", base, layout.width, layout.height)
    for name in layout.concepts:
        concepts[name].check_fits(base)
    check_tokens_differ(layout, concepts)
    canvas, regions = own_prompts(layout, concepts)
    for prompt in (canvas, *regions):
        base.check_prompt(prompt)
    return remarks_on(layout, concepts) + _close_boxes(layout, base)


def _close_boxes(layout: Layout, base: Backbone) -> list[str]:
    grid = base.guidance_cells(layout.width, layout.height)
    remarks = []
    for first, second in combinations(layout.regions, 2):
        names = f"the boxes of {first.concept} and {second.concept}"
        if _overlap(first.box, second.box):
            remarks.append(f"{names} overlap; they may blend")
            continue
        a, b = cells_of(first.box, *grid), cells_of(second.box, *grid)
        if a is None or b is None:
            continue
        apart_x = max(a.left, b.left) - min(a.right, b.right)
        apart_y = max(a.top, b.top) - min(a.bottom, b.bottom)
        if max(apart_x, apart_y) < 1:
            remarks.append(f"{names} are less than a cell apart; they may blend")
    return list(dict.fromkeys(remarks))


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
