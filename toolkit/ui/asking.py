"""What the API is asked with, as JSON: checked here for its shape, and then as the commands do."""

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from toolkit.config.schema import Folders
from toolkit.errors import InputError
from toolkit.names import check_name
from toolkit.ui.methods import FILES
from toolkit.ui.orders import Kind, Order, compose_arguments, folder_arguments
from toolkit.ui.uploads import training_folder

_MOST_SEEDS = 1000
_LONGEST_VALUE = 200


class Drawing(BaseModel):
    """A layout, and how it is to be made."""

    model_config = ConfigDict(extra="forbid")

    layout: dict[str, Any] = Field(description="a layout, as a line of a JSONL file holds it")
    method: str = "lora_composer"
    switches: dict[str, bool | int | float | str | None] = Field(
        default={}, description="settings of the method, as {'fill_loss': false}"
    )
    seeds: int | list[int] = Field(default=1, description="4 means 0 to 3; [7, 11] those two")
    steps: int | None = None
    guidance_scale: float | None = None
    upscale: float = Field(
        default=1, ge=1, le=4, description="how many times as large the finished picture is made"
    )
    detail: bool = Field(default=False, description="refine each small region by itself")

    def order(self, model: tuple[str, ...], folders: Folders) -> Order:
        """The same as a command. Raises InputError for what is wrong.

        model: the arguments that chose the base.
        """
        order = Order(
            Kind.COMPOSE, self._title(), self._arguments(model, folders, False), self.layout
        )
        order.drawn, order.compose_config  # noqa: B018 (what is wrong with them is told now)
        return order

    def _title(self) -> str:
        return str(self.layout.get("name", ""))[:_LONGEST_VALUE]

    def _arguments(
        self, model: tuple[str, ...], folders: Folders, overwrite: bool
    ) -> tuple[str, ...]:
        if isinstance(self.seeds, list) and len(self.seeds) > _MOST_SEEDS:
            raise InputError(f"seeds: at most {_MOST_SEEDS} in one job", "seeds")
        if isinstance(self.seeds, int) and self.seeds > _MOST_SEEDS:
            raise InputError(f"seeds: at most {_MOST_SEEDS} in one job", "seeds")
        return compose_arguments(
            model,
            folders,
            self.method,
            {_key(name): _typed(value) for name, value in self.switches.items()},
            self.steps,
            self.guidance_scale,
            self.upscale,
            self.detail,
            json.dumps(self.seeds).replace(" ", ""),
            overwrite,
        )


class Composition(Drawing):
    """A layout to make pictures of."""

    overwrite: bool = Field(default=False, description="make pictures anew that are there")
    preview_every: int = Field(default=3, ge=0, le=1000, description="steps; 0: no previews")
    decoded: bool = Field(default=False, description="previews by the autoencoder: slower")

    def order(self, model: tuple[str, ...], folders: Folders) -> Order:
        """The same as a command."""
        order = Order(
            Kind.COMPOSE,
            self._title(),
            self._arguments(model, folders, self.overwrite),
            self.layout,
            self.preview_every,
            self.decoded,
        )
        order.drawn, order.compose_config  # noqa: B018
        return order


class Training(BaseModel):
    """A concept to train on the images that were sent for it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    class_word: str
    steps: int | None = Field(default=None, description="null: the base's own")

    def order(self, model: tuple[str, ...], folders: Folders) -> Order:
        """The same as a command. Raises InputError for what is wrong."""
        check_name("concept", self.name)
        folder = training_folder(folders.output_dir, self.name)
        if not folder.is_dir():
            raise InputError(f"no images were sent for {self.name}")
        typed = [
            *model,
            f"concept={self.name}",
            f"concept.images={folder}",
            f"concept.class_word={self.class_word}",
            *folder_arguments(folders),
        ]
        typed += [f"training.steps={self.steps}"] if self.steps is not None else []
        return Order(Kind.TRAIN, f"train {self.name}", tuple(typed))


def _key(name: str) -> str:
    if not re.fullmatch(r"[a-z_]+", name) or name == "name":
        raise InputError(f"switches: {name[:80]!r} is no setting of a method", "switches")
    if name in FILES:
        raise InputError(
            f"switches: {name} names files: the page cannot; use toolkit compose", "switches"
        )
    return name


def _typed(value: bool | int | float | str | None) -> str:
    """A value as it is typed after `key=`."""
    if isinstance(value, str):
        if len(value) > _LONGEST_VALUE:
            raise InputError("switches: a value is too long", "switches")
        return value
    return json.dumps(value)
