"""Paint by Example (Yang et al. 2023, arXiv 2211.13227): the place first, then each subject."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from toolkit.errors import InputError
from toolkit.layout.areas import bounds_of
from toolkit.methods.boxes import check_boxes
from toolkit.methods.method import PlainMethod

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.backbones import Backbone
    from toolkit.concept import Concept
    from toolkit.layout.layout import Layout
    from toolkit.methods.method import Prepared

PARTS = ("unet", "vae", "image_encoder", "scheduler", "feature_extractor")
"""Folders of its checkpoint, as diffusers keeps it."""
_STEP = 64
"""Pixels: what its canvases are multiples of."""


@lru_cache(maxsize=1)
def _ask_hub(painter: str) -> None:
    """Raise InputError where a hub has no such model, and it is not on this machine either."""
    from toolkit.backbones.source import offline_copy

    offline_copy(painter, f"painter.path={painter} is no folder here", "model_index.json")


@dataclass(frozen=True)
class PaintByExample(PlainMethod):
    """The base draws the place; a model that knows no concept paints each one's image into its box.

    Nothing but the concept's first image is known of it there: the concept's file lends its class
    word, and that of a background draws.
    """

    finishes: ClassVar[bool] = True
    not_in_name: ClassVar[frozenset[str]] = frozenset({"painter"})

    name: str = "paint_by_example"
    painter: str | None = None
    """Its checkpoint: a diffusers folder or hub id; painter.path= is the same."""
    painter_steps: int = 50
    """Denoising steps of each subject."""
    painter_guidance_scale: float = 5.0
    """Classifier-free guidance of each subject."""

    def __post_init__(self) -> None:
        if not 1 <= self.painter_steps <= 1000:
            raise InputError(
                f"method.painter_steps={self.painter_steps}: must be at least 1 and at most 1000"
            )

    def check(self, layout: "Layout") -> None:
        """Raise InputError for a missing checkpoint, and a layout that it cannot paint."""
        check_boxes(layout, self.name)
        if self.painter is None:
            raise InputError(
                "method=paint_by_example needs its checkpoint: painter.path=FOLDER_OR_HUB_ID, as "
                "Fantasy-Studio/Paint-by-Example"
            )
        folder = Path(self.painter).expanduser()
        if not folder.exists():
            _ask_hub(self.painter)
        missing = [part for part in PARTS if folder.exists() and not (folder / part).is_dir()]
        if missing:
            raise InputError(
                f"painter.path={self.painter}: no checkpoint of Paint by Example, it lacks "
                f"{', '.join(missing)}"
            )
        if layout.width % _STEP or layout.height % _STEP:
            raise InputError(
                f"layout {layout.name}: method=paint_by_example paints on multiples of {_STEP} "
                f"pixels, not {layout.width} x {layout.height}"
            )

    def reads(self, layout: "Layout", exemplars: "Mapping[str, Path]") -> tuple[str, ...]:
        """Its checkpoint, and an image of each subject."""
        shown = dict.fromkeys(str(exemplars[region.concept]) for region in layout.regions)
        return (*((self.painter,) if self.painter else ()), *shown)

    def prepare(
        self, base: "Backbone", layout: "Layout", concepts: "Mapping[str, Concept]"
    ) -> "Prepared":
        """The prompt without its subjects, drawn by the background's concept where there is one."""
        from toolkit.methods.reading import encode, place

        return (encode(base, layout, place(layout, concepts)),)

    def finish(
        self, pixels: "Tensor", layout: "Layout", seed: int, exemplars: "Mapping[str, Path]"
    ) -> "Tensor":
        """Each region's subject painted into its box, in the layout's order."""
        from toolkit.methods.painting import load_painter, paint

        assert self.painter is not None
        painter = load_painter(self.painter, pixels.device)
        return paint(
            painter,
            pixels,
            [(bounds_of(region), exemplars[region.concept]) for region in layout.regions],
            seed,
            self.painter_steps,
            self.painter_guidance_scale,
        )
