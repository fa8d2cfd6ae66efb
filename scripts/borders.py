"""Measure what pictures show of their boxes, where no subject is.

    python scripts/borders.py OUTPUT_DIR LAYOUT,.. SEEDS METHOD OTHER_METHOD ..

Reads what `toolkit compose` has made of these layouts, and says what changes across the boxes'
borders. Where the subjects are the attention of METHOD's guided steps tells, for all methods alike;
so compare methods whose guided steps are the same, as `lora_composer with_mask_refinement`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import toolkit
from toolkit.evaluation.borders import border_of
from toolkit.images.tensors import pixels_of
from toolkit.layout.areas import areas_of, bounds_of, cells_of_areas, own_cells
from toolkit.layout.layout import Layout
from toolkit.layout.masks import cell_mask
from toolkit.methods.outlines import outlined

_ROOM = 8
"""Pixels around an outline that count as the subject too: ears would be taken for a border."""


def subjects_of(base: toolkit.Base, layout: Layout, method: str, output: Path, seed: int) -> Tensor:
    """(height, width), true where a subject is after the guided steps of a picture."""
    concepts = [toolkit.load_concept(c, base, output_dir=output) for c in layout.concepts]
    presence: tuple[Tensor, ...] = ()
    steps = toolkit.compose_steps(layout, concepts, base, method=method, seeds=[seed])
    for step in steps:
        if step.number >= 0 and not step.guidance:
            break
        presence = step.guidance[0].presence if step.guidance else presence
    steps.close()
    return outlines_of(presence, layout)


def outlines_of(presence: Sequence[Tensor], layout: Layout) -> Tensor:
    """(height, width), true where a subject is, with some room around it.

    presence: (h, w) for each region.
    """
    areas = areas_of(layout.regions)
    cells = cells_of_areas(areas, *presence[0].shape)
    found = torch.zeros(layout.height, layout.width, dtype=torch.bool)
    for area, own, one in zip(areas, cells, presence, strict=True):
        assert own is not None
        outline = own_cells(outlined(area, own, one), layout.height, layout.width)
        found |= cell_mask(outline, layout.height, layout.width) > 0
    wider = functional.max_pool2d(found.float()[None, None], 2 * _ROOM + 1, 1, _ROOM)
    return wider[0, 0] > 0


def main(output: Path, layouts: list[str], seeds: int, methods: list[str]) -> None:
    """Print a line for each layout and method, the mean over its seeds."""
    torch.set_num_threads(1)
    base = toolkit.load_base("mini", device="cpu")
    print(f"{'layout':14}{'method':28}{'colour':>8}{'edge':>8}{'pixels':>8}")
    for name in layouts:
        layout = toolkit.load_layout(name)
        boxes = [bounds_of(region) for region in layout.regions]
        subjects = [subjects_of(base, layout, methods[0], output, seed) for seed in range(seeds)]
        for method in methods:
            found = []
            for seed, held in enumerate(subjects):
                file = output / "compose" / method / name / f"{seed}.png"
                border = border_of(pixels_of(Image.open(file).convert("RGB")), boxes, held)
                found += [border] if border else []
            if found:
                colour = sum(one.colour for one in found) / len(found)
                edge = sum(one.edge for one in found) / len(found)
                pixels = sum(one.pixels for one in found)
                print(f"{name:14}{method:28}{colour:8.4f}{edge:8.4f}{pixels:8}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), sys.argv[4:])
