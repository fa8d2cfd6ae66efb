"""SEED.json files: what made each picture. They are the journal; the manifest is made from them."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from toolkit.backbones.identity import Identity
from toolkit.files import sha256_of, whole_file
from toolkit.layout.layout import Layout
from toolkit.layout.mapping import layout_to_mapping
from toolkit.methods import Method, record_of
from toolkit.text.wording import counted

log = logging.getLogger(__name__)

DONE, FAILED = "done", "failed"
MANIFEST = "manifest.parquet"
EARLIER = "earlier"
SUFFIXES = (".json", ".png", ".safetensors", "_attention.png", "_losses.png")
"""Of a picture's files; the first is its entry in the journal."""


@dataclass(frozen=True)
class Item:
    """One picture to make."""

    layout: Layout
    seed: int

    def path(self, folder: Path, suffix: str) -> Path:
        """A file of this picture under outputs/compose/METHOD, such as LAYOUT/SEED.png."""
        return folder / self.layout.name / f"{self.seed}{suffix}"


@dataclass(frozen=True)
class Recipe:
    """All that a picture depends on besides its layout and seed.

    concepts: SHA-256 of each concept's file. conditions: SHA-256 of each image and network that
        the layouts' conditions name. masks: of each mask that their regions name. A recipe that
        differs makes a picture stale.
    """

    base: Mapping[str, str]
    concepts: Mapping[str, str]
    conditions: Mapping[str, str]
    method: Mapping[str, Any]
    steps: int
    guidance_scale: float
    also_needs: Callable[[Layout], Sequence[str]] = lambda layout: ()
    """Concepts that the method asks for besides a layout's own."""
    also_reads: Callable[[Layout], Sequence[str]] = lambda layout: ()
    """Files that the method asks for besides a layout's conditions."""
    masks: Mapping[str, str] = field(default_factory=dict)
    second: Mapping[str, Any] = field(default_factory=dict)
    """The second passes, as `SecondPasses.record` has them."""

    def inputs(self, item: Item) -> dict[str, Any]:
        """What SEED.json keeps, and what a rerun compares."""
        read = (*_condition_paths(item.layout), *self.also_reads(item.layout))
        conditions = {path: self.conditions[path] for path in read}
        masks = {path: self.masks[path] for path in _mask_paths(item.layout)}
        names = dict.fromkeys((*item.layout.concepts, *self.also_needs(item.layout)))
        return {
            "layout": layout_to_mapping(item.layout),
            "seed": item.seed,
            "base": dict(self.base),
            "concepts": {name: self.concepts[name] for name in names},
            "method": dict(self.method),
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
        } | {
            key: kept
            for key, kept in (
                ("conditions", conditions),
                ("masks", masks),
                ("second", dict(self.second)),
            )
            if kept
        }


def recipe_of(
    base: Identity,
    layouts: Sequence[Layout],
    concepts: Mapping[str, Path],
    method: Method,
    steps: int,
    guidance_scale: float,
    exemplars: Mapping[str, Path],
    second: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe of a run; reads every concept's, condition's and mask's files once.

    exemplars: images of concepts, where the method is shown them. second: as `Recipe` has it.
    """
    also_reads = partial(method.reads, exemplars=exemplars)
    conditions = {
        path for layout in layouts for path in (*_condition_paths(layout), *also_reads(layout))
    }
    masks = {path for layout in layouts for path in _mask_paths(layout)}
    return Recipe(
        base=base.record,
        concepts={name: sha256_of(path) for name, path in concepts.items()},
        conditions={path: _sha256_of_all(Path(path)) for path in conditions},
        method=record_of(method),
        steps=steps,
        guidance_scale=guidance_scale,
        also_needs=method.also_needs,
        also_reads=also_reads,
        masks={path: sha256_of(Path(path)) for path in masks},
        second=second or {},
    )


def _condition_paths(layout: Layout) -> list[str]:
    return [path for one in layout.conditions for path in (one.model, str(one.image))]


def _mask_paths(layout: Layout) -> list[str]:
    return [str(region.mask) for region in layout.regions if region.mask]


def _sha256_of_all(path: Path) -> str:
    """Of a file; of a folder, of its files' hashes; "" of a hub id, whose name must do."""
    if path.is_file():
        return sha256_of(path)
    hashes = [sha256_of(file) for file in sorted(path.rglob("*")) if file.is_file()]
    return hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes else ""


def is_done(item: Item, recipe: Recipe, folder: Path) -> bool:
    """Whether the picture is there, whole, and made from the same inputs."""
    entry = read_entry(item.path(folder, ".json"))
    image = folder / str(entry.get("image")) if entry else folder
    return (
        entry is not None
        and entry.get("status") == DONE
        and entry.get("inputs") == json.loads(json.dumps(recipe.inputs(item)))
        and image.is_file()
        and sha256_of(image) == entry.get("sha256")
    )


def error_of(item: Item, folder: Path) -> str | None:
    """Why the picture could not be made; None when it was."""
    entry = read_entry(item.path(folder, ".json"))
    if entry is None:
        return "it was not made: the run, or the process that had it, ended before"
    return None if entry.get("status") == DONE else str(entry.get("error"))


def size_of(inputs: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of the picture that an entry's `inputs` made."""
    layout, times = inputs["layout"], inputs.get("second", {}).get("upscale", 1)
    return round(layout["width"] * times), round(layout["height"] * times)


def make_room(items: Sequence[Item], folder: Path, keep_earlier: bool) -> None:
    """Before pictures are made: what stands in their place goes to `earlier/`, or away."""
    folder.mkdir(parents=True, exist_ok=True)
    if keep_earlier and (kept := set_aside(items, folder)):
        earlier = counted(kept, "earlier picture")
        log.info("%s, made from other inputs: kept in earlier/ beside the new", earlier)
    clear(items, folder)
    (folder / MANIFEST).unlink(missing_ok=True)  # it lists what is gone now


def set_aside(items: Iterable[Item], folder: Path) -> int:
    """Move finished pictures and what is beside them to `earlier/`; how many pictures those were.

    They are called SEED_HASH there, so that several earlier ones of a seed may lie side by side.
    """
    moved = 0
    for item in items:
        entry = read_entry(item.path(folder, ".json"))
        if entry is None or entry.get("status") != DONE or not entry.get("sha256"):
            continue
        earlier = item.path(folder, "").parent / EARLIER
        earlier.mkdir(exist_ok=True)
        for suffix in SUFFIXES:
            with suppress(FileNotFoundError):  # a picture has not all of them
                kept = earlier / f"{item.seed}_{str(entry['sha256'])[:8]}{suffix}"
                item.path(folder, suffix).replace(kept)
        moved += 1
    return moved


def clear(items: Iterable[Item], folder: Path) -> None:
    """Take away what was written of these pictures."""
    for item in items:
        for suffix in SUFFIXES:
            with suppress(NotADirectoryError):  # a file stands where the layout's folder should
                item.path(folder, suffix).unlink(missing_ok=True)


def read_entry(path: Path) -> dict[str, Any] | None:
    """A SEED.json, or None where there is none that can be read."""
    try:
        entry = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) else None


def write_entry(path: Path, entry: Mapping[str, Any]) -> None:
    """Write a SEED.json, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(entry, indent=1) + "\n")


def write_manifest(folder: Path, method: str) -> Path:
    """Make `manifest.parquet` from every SEED.json under outputs/compose/METHOD.

    One that cannot be a row (edited by hand, from another version) is left out and counted.
    """
    rows: dict[Path, dict[str, Any]] = {}
    strange: list[Path] = []
    for path in sorted(folder.glob("*/*.json")):
        entry = read_entry(path)
        if entry is None or "inputs" not in entry:
            continue
        try:
            rows[path] = _row(entry, method)
        except (KeyError, TypeError, IndexError, AttributeError):
            strange.append(path)
    try:
        table = _table(rows.values())
    except _NO_ROW:
        whole = {path: row for path, row in rows.items() if _is_row(row)}
        strange += [path for path in rows if path not in whole]
        table = _table(whole.values())
    if strange:
        log.warning(
            "%d results cannot stand in the manifest and are left out: %s%s",
            len(strange), strange[0], " and others" if len(strange) > 1 else "",
        )  # fmt: skip
    manifest = folder / MANIFEST
    with whole_file(manifest) as temporary:
        parquet.write_table(table, temporary)
    return manifest


def _row(entry: Mapping[str, Any], method: str) -> dict[str, Any]:
    losses = entry.get("losses") or []
    width, height = size_of(entry["inputs"])
    return {
        "layout": entry["inputs"]["layout"]["name"],
        "seed": entry["inputs"]["seed"],
        "method": method,
        "image": entry.get("image"),
        "sha256": entry.get("sha256"),
        "concepts": sorted(entry["inputs"]["concepts"]),
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "guidance_steps": len(losses),
        "seconds": entry.get("seconds"),
        "rank": entry.get("rank"),
        "status": entry["status"],
        "error": entry.get("error"),
        "prompt": entry["inputs"]["layout"]["prompt"],
        "width": width,
        "height": height,
        "steps": entry["inputs"]["steps"],
        "guidance_scale": entry["inputs"]["guidance_scale"],
        "base": entry["inputs"]["base"]["name"],
        "settings": json.dumps(entry["inputs"]["method"]),
    }


_NO_ROW = (pyarrow.ArrowException, OverflowError, ValueError, TypeError)
_SCHEMA = pyarrow.schema(
    [
        ("layout", pyarrow.string()),
        ("seed", pyarrow.int64()),
        ("method", pyarrow.string()),
        ("image", pyarrow.string()),
        ("sha256", pyarrow.string()),
        ("concepts", pyarrow.list_(pyarrow.string())),
        ("loss_first", pyarrow.float64()),
        ("loss_last", pyarrow.float64()),
        ("guidance_steps", pyarrow.int64()),
        ("seconds", pyarrow.float64()),
        ("rank", pyarrow.int64()),
        ("status", pyarrow.string()),
        ("error", pyarrow.string()),
        ("prompt", pyarrow.string()),
        ("width", pyarrow.int64()),
        ("height", pyarrow.int64()),
        ("steps", pyarrow.int64()),
        ("guidance_scale", pyarrow.float64()),
        ("base", pyarrow.string()),
        ("settings", pyarrow.string()),
    ]
)


def _table(rows: Iterable[Mapping[str, Any]]) -> pyarrow.Table:
    return pyarrow.Table.from_pylist(list(rows), _SCHEMA)


def _is_row(row: Mapping[str, Any]) -> bool:
    try:
        _table([row])
    except _NO_ROW:
        return False
    return True
