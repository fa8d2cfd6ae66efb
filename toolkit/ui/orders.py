"""What a job is to do: the arguments of a command, and the layout that they are for."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from toolkit.batch.asked import checked
from toolkit.config import (
    ComposeConfig,
    ImportConfig,
    SampleConfig,
    TrainConfig,
    read_compose,
)
from toolkit.config.keys import keys_of
from toolkit.config.schema import Folders
from toolkit.errors import InputError
from toolkit.files import whole_file
from toolkit.layout.files import Lines
from toolkit.layout.layout import Layout, is_file
from toolkit.layout.mapping import layout_from_mapping, layout_to_mapping
from toolkit.text.yaml_values import write_yaml

# `toolkit compose` wants a layout named; an order brings its own.
_ANY = "layout=scene1"


def know_keys() -> None:
    """Read what keys the commands have, before there are threads.

    They stand in the schemas' source, and Python 3.11's parser is not for two threads at once.
    """
    for schema in (ComposeConfig, TrainConfig, SampleConfig, ImportConfig):
        keys_of(schema)


class Kind(StrEnum):
    """The command that a job is."""

    COMPOSE = "compose"
    IMPORT = "import"
    TRAIN = "train"


@dataclass(frozen=True)
class Order:
    """One command, as it would be typed after `toolkit KIND`; to compose, without its layout.

    layout: what is composed, as plain values. preview_every: steps from one preview to the next;
    0: none. decoded: previews by the autoencoder, which takes longer.
    """

    kind: Kind
    title: str
    arguments: tuple[str, ...]
    layout: Mapping[str, Any] | None = None
    preview_every: int = 3
    decoded: bool = False

    @cached_property
    def drawn(self) -> Layout:
        """The layout. Raises InputError for a wrong one, or one that names files."""
        return read_drawn(self.layout or {})

    @cached_property
    def compose_config(self) -> ComposeConfig:
        """The config of `toolkit compose`. Raises InputError for what is wrong."""
        return replace(read_compose([*self.arguments, _ANY]), layouts=())

    def check_files(self) -> None:
        """Raise InputError for what files tell to be wrong: concepts, the canvas, empty boxes."""
        config = self.compose_config
        checked([self.drawn], Lines({}, ()), config, config.model, config.method, config.sampling)

    @property
    def command(self) -> str:
        """What to type for the same, once the layout's file is there."""
        typed = list(self.arguments)
        if self.layout is not None:
            typed.insert(0, f"layout={layout_path(self.compose_config.output_dir, self.drawn)}")
        return shlex.join(["toolkit", self.kind, *typed])


def compose_arguments(
    model: Sequence[str],
    folders: Folders,
    method: str,
    switches: Mapping[str, str],
    steps: int | None,
    guidance_scale: float | None,
    upscale: float,
    detail: bool,
    seeds: str,
    overwrite: bool,
) -> tuple[str, ...]:
    """The arguments of `toolkit compose`; model: those that chose the base."""
    typed = [*model, f"method={method}"]
    typed += [f"method.{name}={value}" for name, value in switches.items()]
    typed += [f"sampling.steps={steps}"] if steps is not None else []
    typed += [f"sampling.guidance_scale={guidance_scale}"] if guidance_scale is not None else []
    typed += [f"sampling.upscale={upscale:g}"] if upscale != 1 else []
    typed += ["sampling.detail=true"] if detail else []
    typed.append(f"seeds={seeds}")
    typed += folder_arguments(folders)
    return tuple(typed + (["overwrite=true"] if overwrite else []))


def folder_arguments(folders: Folders) -> list[str]:
    """What to type for a command that is to read and write in these folders."""
    typed = []
    if folders.output_dir != Path("outputs"):
        typed.append(f"output_dir={folders.output_dir}")
    if folders.concepts_dir is not None:
        typed.append(f"concepts_dir={folders.concepts_dir}")
    return typed


def read_drawn(content: Mapping[str, Any]) -> Layout:
    """A layout from the page. Raises InputError for a wrong one.

    Files of the server's disk are not to be named over the network: concepts are called by name.
    """
    layout = layout_from_mapping(content, "layout")
    if layout.conditions:
        raise InputError(
            "conditions name files: the page cannot draw them; use toolkit compose", "conditions"
        )
    for number, region in enumerate(layout.regions):
        if region.mask is not None:
            raise InputError(
                f"the mask of region {number + 1} is a file: the page draws boxes and polygons; "
                "use toolkit compose",
                f"regions[{number}].mask",
            )
    for name in filter(is_file, layout.concepts):
        raise InputError(f"concept {name} is a file: import it, and call it by its name")
    return layout


def layout_yaml(layout: Layout) -> str:
    """A layout as its YAML file holds it."""
    return write_yaml(layout_to_mapping(layout))


def layout_path(output_dir: Path, layout: Layout) -> Path:
    """Where the page keeps a layout that it made pictures of."""
    return output_dir / "layouts" / f"{layout.name}.yaml"


def save_layout(output_dir: Path, layout: Layout) -> Path:
    """Write a layout where `toolkit compose layout=` can read it."""
    path = layout_path(output_dir, layout)
    with whole_file(path) as temporary:
        temporary.write_text(layout_yaml(layout))
    return path
