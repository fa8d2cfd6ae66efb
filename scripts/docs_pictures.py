"""Put the pictures of README and docs together: `python scripts/docs_pictures.py`.

They are laid out from what `toolkit evaluate` composed (`make refresh` runs all that is needed): a
row for each method, a column for each seed, layouts below one another, nothing chosen.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from toolkit.evaluation.figures import contact_sheet

DOCS = Path(__file__).resolve().parent.parent / "docs" / "images"


@dataclass(frozen=True)
class Sheet:
    """One picture of the docs: which layouts, methods and seeds it shows."""

    layouts: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int


RIVALS = ("merge", "regional_tokens")
OURS = ("lora_composer", "balanced", "fast")
SHEETS = {
    "scene1_rows": Sheet(("scene1",), ("prompt_only", *RIVALS, "lora_composer", "balanced"), 8),
    "five_rows": Sheet(("bench12",), ("regional_tokens", "lora_composer", "balanced"), 2),
    "two": Sheet(("bench01", "bench05"), (*RIVALS, *OURS), 2),
    "three": Sheet(("bench07", "bench08"), (*RIVALS, *OURS), 2),
    "eight": Sheet(("bench13", "bench14"), ("regional_tokens", "lora_composer", "balanced"), 2),
    "strong": Sheet(
        ("strong1", "strong2"), ("balanced", "fast", "lora_composer", "regional_tokens"), 4
    ),
    "four_five": Sheet(("bench10", "bench12"), (*RIVALS, *OURS), 2),
}


def draw(sheet: Sheet, composed: Path) -> Image.Image:
    """The sheet, of pictures in composed/METHOD/LAYOUT/SEED.png."""
    parts = [
        contact_sheet(
            {
                (method, seed): composed / method / layout / f"{seed}.png"
                for method in sheet.methods
                for seed in range(sheet.seeds)
            }
        )
        for layout in sheet.layouts
    ]
    whole = Image.new(
        "RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white"
    )
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def main(argv: Sequence[str] | None = None) -> None:
    """Write every picture into docs/images."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--composed", type=Path, default=Path("outputs/compose"))
    parser.add_argument("--only", nargs="*", choices=[*SHEETS, "scene1_attention"])
    arguments = parser.parse_args(argv)
    for name, sheet in SHEETS.items():
        if not arguments.only or name in arguments.only:
            draw(sheet, arguments.composed).save(DOCS / f"{name}.webp", quality=90, method=6)
    if not arguments.only or "scene1_attention" in arguments.only:
        attention = arguments.composed / "lora_composer" / "scene1" / "0_attention.png"
        shutil.copyfile(attention, DOCS / "scene1_attention.png")


if __name__ == "__main__":
    main()
