"""What must be right with a layout before anything is made."""

from collections.abc import Mapping
from itertools import combinations, product

from toolkit.backbones import Backbone
from toolkit.backbones.memory import check_memory
from toolkit.backbones.unet.left_out import carries_more
from toolkit.concept import Concept
from toolkit.layout.areas import areas_of, cells_of_areas
from toolkit.layout.cells import Cells
from toolkit.layout.layout import Layout, Region
from toolkit.methods.method import Method
from toolkit.methods.prompts import check_tokens_differ, remarks_on
from toolkit.methods.reading import own_prompts
from toolkit.text.wording import counted, listed


def check(
    layout: Layout, base: Backbone, concepts: Mapping[str, Concept], method: Method
) -> list[str]:
    """What is odd about a layout, such as regions closer than a cell, in a line each.

    Raises InputError for one that this base cannot make.
    """
    base.check_layout(layout)
    check_memory(f"layout {layout.name}", base, layout.width, layout.height)
    for name in layout.concepts:
        concepts[name].check_recipe(method.recipe)
        concepts[name].check_fits(base)
    check_tokens_differ(layout, concepts)
    canvas, regions = own_prompts(layout, concepts)
    for prompt in (canvas, *regions):
        base.check_prompt(prompt)
    return (
        remarks_on(layout, concepts)
        + _left_out(layout, concepts, method)
        + _close_regions(layout, base)
    )


def _left_out(layout: Layout, concepts: Mapping[str, Concept], method: Method) -> list[str]:
    """What of other programs' LoRAs the method leaves out in regions.

    Not said of an ED-LoRA, which the published method was made for: it leaves out what that changes
    of self-attention.
    """
    remarks = []
    for name in dict.fromkeys(region.concept for region in layout.regions):
        concept = concepts[name]
        kinds = method.left_out(concept.unet)
        if not kinds or (concept.token_names and not carries_more(concept.unet)):
            continue
        said = listed([f"{kind} ({counted(number, 'map')})" for kind, number in kinds.items()])
        remarks.append(
            f"what {name} changes of {said} is left out in regions: method=balanced takes all of "
            "it, as method.self_attention_injection=true method.query_injection=true does"
        )
    return remarks


def _close_regions(layout: Layout, base: Backbone) -> list[str]:
    grid = base.guidance_cells(layout.width, layout.height)
    held = cells_of_areas(areas_of(layout.regions), *grid)
    remarks = []
    for (first, a), (second, b) in combinations(zip(layout.regions, held, strict=True), 2):
        if a is None or b is None:
            continue
        kind = "boxes" if first.box and second.box else "regions"
        names = f"the {kind} of {first.concept} and {second.concept}"
        if _overlap(first, a, second, b):
            remarks.append(f"{names} overlap; they may blend")
        elif _touch(a, b):
            remarks.append(f"{names} are less than a cell apart; they may blend")
    return list(dict.fromkeys(remarks))


def _overlap(first: Region, a: Cells, second: Region, b: Cells) -> bool:
    if first.depth != second.depth:  # the nearer one has the place to itself
        return False
    if first.box and second.box:
        (x0, y0, x1, y1), (u0, v0, u1, v1) = first.box, second.box
        return x0 < u1 and u0 < x1 and y0 < v1 and v0 < y1
    return not set(a).isdisjoint(b)


def _touch(first: Cells, second: Cells) -> bool:
    """Whether they share a cell, or a cell of one lies beside one of the other."""
    around = {(y + dy, x + dx) for y, x in first for dy, dx in product((-1, 0, 1), repeat=2)}
    return any(cell in around for cell in second)
