"""What is done with a finished picture: it is made larger, and its small regions are refined."""

import re
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from toolkit.backbones.sizes import Sizes
from toolkit.errors import InputError
from toolkit.files import sha256_of
from toolkit.layout.layout import Layout
from toolkit.methods.method import Method
from toolkit.second.crops import crops_of

_OF_UPSCALE = ("upscale_strength", "upscaler", "tile")
_OF_DETAIL = ("detail_strength",)


@dataclass(frozen=True)
class SecondPasses:
    """Which second passes a picture gets, the upscale before the detail; by default none."""

    upscale: float = 1.0
    """How many times as wide and high the finished picture is made, its regions acting on."""
    upscale_strength: float = 0.3
    """In how large a share of the steps, the last ones, the enlarged picture is denoised again."""
    upscaler: Path | None = None
    """A network that enlarges pictures, as spandrel reads it; null: a bicubic filter."""
    tile: int | None = None
    """The side in pixels of tiles in which that is done; null: only where memory asks for it."""
    detail: bool = False
    """Refine each small region by itself, in the base's own size."""
    detail_strength: float = 0.4
    """In how large a share of the steps, the last ones, a region is refined."""

    def __post_init__(self) -> None:
        if not self.upscale >= 1:
            raise InputError(
                f"sampling.upscale must be at least 1, got {self.upscale:g}", "upscale"
            )
        for key in ("upscale_strength", "detail_strength"):
            if not 0 <= (strength := getattr(self, key)) <= 1:
                raise InputError(
                    f"sampling.{key} must be at least 0 and at most 1, got {strength:g}", key
                )
        if self.detail and not self.detail_strength:
            raise InputError(
                "sampling.detail_strength=0 would refine nothing: leave out sampling.detail",
                "detail_strength",
            )
        default = _defaults()
        for keys, other, is_asked in (
            (_OF_UPSCALE, "sampling.upscale=2", self.enlarges),
            (_OF_DETAIL, "sampling.detail=true", self.detail),
        ):
            for key in keys:
                if not is_asked and getattr(self, key) != default[key]:
                    raise InputError(f"sampling.{key} says how: ask for {other} too", key)

    @property
    def enlarges(self) -> bool:
        """Whether pictures are made larger."""
        return self.upscale != 1

    @property
    def is_asked(self) -> bool:
        """Whether there is any second pass."""
        return self.enlarges or self.detail

    @property
    def asked(self) -> str:
        """The keys that ask for them."""
        keys = {"sampling.upscale": self.enlarges, "sampling.detail": self.detail}
        return " and ".join(key for key, is_asked in keys.items() if is_asked)

    @property
    def without(self) -> Self:
        """The same without second passes."""
        return replace(self, **_defaults())

    @property
    def in_name(self) -> str:
        """What they add to the name of a method's folder: what is asked for, and what it sets."""
        said = {
            key: getattr(self, key)
            for key, value in _defaults().items()
            if getattr(self, key) != value
        }
        return "".join(f"+{key}={_in_name(value)}" for key, value in sorted(said.items()))

    def record(self, own: tuple[int, int]) -> dict[str, Any]:
        """What a picture's record keeps of them; nothing where there are none.

        own: the width and height that the base was trained at.
        """
        kept: dict[str, Any] = {}
        if self.enlarges:
            network = self.upscaler and sha256_of(self.upscaler)
            kept = {"upscale": self.upscale, "upscale_strength": self.upscale_strength}
            kept |= {"upscaler": network, "tile": self.tile}
        if self.detail:
            kept |= {"detail_strength": self.detail_strength, "detail_size": list(own)}
        return kept

    def larger(self, layout: Layout) -> Layout:
        """The layout on the canvas of the finished picture.

        Raises InputError where that would have no whole pixels, or too many.
        """
        sides = layout.width * self.upscale, layout.height * self.upscale
        if any(abs(side - round(side)) > 1e-6 for side in sides):
            raise InputError(
                f"layout {layout.name}: sampling.upscale={self.upscale:g} makes {sides[0]:g} x "
                f"{sides[1]:g} pixels of {layout.width} x {layout.height}: take another",
                "upscale",
            )
        return replace(layout, width=round(sides[0]), height=round(sides[1]))

    def passes(self, layout: Layout, steps: int, own: tuple[int, int]) -> int:
        """The steps that they take, of a picture that was made in so many.

        own: as for `record`.
        """
        count = steps_of(steps, self.upscale_strength) if self.enlarges else 0
        if self.detail:
            crops = crops_of(self.larger(layout), own)
            count += len(crops) * steps_of(steps, self.detail_strength)
        return count

    def check(self, method: Method) -> None:
        """Raise InputError for a method whose regions would not act, and for a missing network."""
        if not self.is_asked:
            return
        if not method.keeps_regions:
            raise InputError(
                f"{self.asked}: method={method.name} has no regions that could act while a "
                "picture is denoised again"
            )
        if self.upscaler is not None:
            if not self.upscaler.is_file():
                raise InputError(f"sampling.upscaler={self.upscaler}: no such file", "upscaler")
            if find_spec("spandrel") is None:
                raise InputError(
                    "sampling.upscaler needs spandrel, which reads such networks: pip install "
                    "spandrel, or leave it out",
                    "upscaler",
                )

    def check_base(self, has_autoencoder: bool, name: str) -> None:
        """Raise InputError for a base that makes no pictures."""
        if self.is_asked and not has_autoencoder:
            raise InputError(f"base {name} has no autoencoder, so no picture can be taken further")

    def check_layout(self, layout: Layout, sizes: Sizes | None, base: str) -> None:
        """Raise InputError for a layout that `base` cannot make larger, or not in such tiles.

        sizes: the base's; None where its files do not tell them.
        """
        larger = self.larger(layout)
        if sizes is None or not self.enlarges:
            return
        sizes.check_layout(larger, base)
        multiple = sizes.size_multiple
        if self.tile is not None and (self.tile % multiple or self.tile < 2 * multiple):
            raise InputError(
                f"sampling.tile={self.tile}: {base} needs a multiple of {multiple}, and at least "
                f"{2 * multiple}",
                "tile",
            )


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields(SecondPasses)}


def steps_of(steps: int, strength: float) -> int:
    """How many of `steps` denoise a picture again: one at least, but where `strength` is 0."""
    return max(1, round(steps * strength)) if strength else 0


def _in_name(value: object) -> str:
    if isinstance(value, Path):
        return re.sub(r"[^\w-]", "-", value.stem)[:40]
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
