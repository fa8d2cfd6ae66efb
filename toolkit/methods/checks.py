"""What must be right with a layout before anything is made."""

from collections.abc import Mapping
from itertools import combinations

from toolkit.backbones import Backbone
from toolkit.backbones.memory import check_memory
from toolkit.concept import Concept
from toolkit.layout.cells import cells_of
from toolkit.layout.layout import Layout
from toolkit.methods.prompts import check_tokens_differ, remarks_on
from toolkit.methods.reading import own_prompts


def check(
    layout: Layout, base: Backbone, concepts: Mapping[str, Concept], recipe: str
) -> list[str]:
    """What is odd about a layout, such as boxes closer than a cell, in a line each.

    recipe: of the concepts that the method draws.
    Raises InputError for one that this base cannot make.
    """
    base.check_layout(layout)
    check_memory(f"layout {layout.name}", base, layout.width, layout.height)
    for name in layout.concepts:
        concepts[name].check_recipe(recipe)
        concepts[name].check_fits(base)
    check_tokens_differ(layout, concepts)
    canvas, regions = own_prompts(layout, concepts)
    for prompt in (canvas, *regions):
        base.check_prompt(prompt)
    return remarks_on(layout, concepts) + _close_boxes(layout, base)


def _close_boxes(layout: Layout, base: Backbone) -> list[str]:
    grid = base.guidance_cells(layout.width, layout.height)
    held = [(region.concept, cells_of(region.box, *grid)) for region in layout.regions]
    placed = [(concept, cells) for concept, cells in held if cells is not None]
    remarks = []
    for (first, a), (second, b) in combinations(placed, 2):
        apart_x = max(a.left, b.left) - min(a.right, b.right)
        apart_y = max(a.top, b.top) - min(a.bottom, b.bottom)
        if max(apart_x, apart_y) < 1:
            remarks.append(
                f"the boxes of {first} and {second} are less than a cell apart; they may blend"
            )
    return list(dict.fromkeys(remarks))
