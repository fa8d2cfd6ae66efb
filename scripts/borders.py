"""Measure what pictures show of their boxes, where no subject is.

    python scripts/borders.py OUTPUT_DIR LAYOUT,.. SEEDS METHOD OTHER_METHOD ..

Reads what `toolkit compose` has made of these layouts, and says what changes across the boxes'
borders. Where the subjects are the attention of METHOD's guided steps tells, for all methods alike;
so compare methods whose guided steps are the same, as `lora_composer with_mask_refinement`.
"""

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import toolkit
from toolkit.evaluation.borders import border_of
from toolkit.images.tensors import pixels_of
from toolkit.layout.areas import bounds_of
from toolkit.layout.layout import Layout

_SUBJECT = 0.15
"""How far from the least to the most attentive cells a subject begins: earlier than its outline in
`methods/outlines.py`, since what is left of a subject would be taken for a border."""
_ROOM = 8
"""Pixels around it that count as the subject too."""


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
    found = torch.zeros(layout.height, layout.width, dtype=torch.bool)
    for one in presence:
        levels = one.flatten().sort().values
        few = len(levels) // 10
        cut = torch.lerp(levels[:few].mean(), levels[-few:].mean(), _SUBJECT)
        size = (layout.height, layout.width)
        found |= functional.interpolate(one[None, None], size, mode="bilinear")[0, 0] > cut
    wider = functional.max_pool2d(found.float()[None, None], 2 * _ROOM + 1, 1, _ROOM)
    return wider[0, 0] > 0


def main(output: Path, layouts: list[str], seeds: int, methods: list[str]) -> None:
    """Print a line for each layout and method, the mean over its seeds."""
    torch.set_num_threads(1)
    base = toolkit.load_base("mini", device="cpu")
    print(f"{'layout':12}{'method':28}{'colour':>8}{'edge':>8}{'pixels':>8}")
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
                print(f"{name:12}{method:28}{colour:8.4f}{edge:8.4f}{pixels:8}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), sys.argv[4:])
