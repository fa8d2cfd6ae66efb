"""SEED.json files: what made each picture. They are the journal; the manifest is made from them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from toolkit.base import Base
from toolkit.base.fingerprint import weights_fingerprint
from toolkit.composition.layout import Layout
from toolkit.composition.layout_mapping import layout_to_mapping
from toolkit.composition.method import Method
from toolkit.files import sha256_of, whole_file

DONE, FAILED = "done", "failed"


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
        the layouts' conditions name. A recipe that differs makes a picture stale.
    """

    base: Mapping[str, str]
    concepts: Mapping[str, str]
    conditions: Mapping[str, str]
    method: Mapping[str, Any]
    steps: int
    guidance_scale: float

    def inputs(self, item: Item) -> dict[str, Any]:
        """What SEED.json keeps, and what a rerun compares."""
        conditions = {path: self.conditions[path] for path in _condition_paths(item.layout)}
        return {
            "layout": layout_to_mapping(item.layout),
            "seed": item.seed,
            "base": dict(self.base),
            "concepts": {name: self.concepts[name] for name in item.layout.concepts},
            "method": dict(self.method),
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
        } | ({"conditions": conditions} if conditions else {})


def recipe_of(
    base: Base,
    layouts: Sequence[Layout],
    concepts: Mapping[str, Path],
    method: Method,
    steps: int,
    guidance_scale: float,
) -> Recipe:
    """The recipe of a run; reads every concept's and condition's files once."""
    conditions = {path for layout in layouts for path in _condition_paths(layout)}
    return Recipe(
        base={
            "name": base.name,
            "architecture": base.architecture,
            "weights": base.weights,
            "autoencoder": weights_fingerprint(base.vae) if base.vae is not None else "",
        },
        concepts={name: sha256_of(path) for name, path in concepts.items()},
        conditions={path: _sha256_of_all(Path(path)) for path in conditions},
        method=asdict(method),
        steps=steps,
        guidance_scale=guidance_scale,
    )


def _condition_paths(layout: Layout) -> list[str]:
    return [path for one in layout.conditions for path in (one.model, str(one.image))]


def _sha256_of_all(path: Path) -> str:
    """Of a file; of a folder, of its files' hashes; "" of a hub id, whose name must do."""
    if path.is_file():
        return sha256_of(path)
    hashes = [sha256_of(file) for file in sorted(path.glob("*")) if file.is_file()]
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
        return "it was not made: the process that had it ended"
    return None if entry.get("status") == DONE else str(entry.get("error"))


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
    """Make `manifest.parquet` from every SEED.json under outputs/compose/METHOD."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*/*.json")):
        entry = read_entry(path)
        if entry is None or "inputs" not in entry:
            continue
        losses: Sequence[float] = entry.get("losses", [])
        rows.append(
            {
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
            }
        )
    schema = pyarrow.schema(
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
        ]
    )
    manifest = folder / "manifest.parquet"
    with whole_file(manifest) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema), temporary)
    return manifest
