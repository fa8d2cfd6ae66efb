"""The pictures that were made, by commands or by the page, as their SEED.json files tell."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.batch.journal import DONE, read_entry, size_of
from toolkit.ui.messages import address


class Results:
    """Every composition under an output folder. A SEED.json is read again once it changed."""

    def __init__(self, output_dir: Path) -> None:
        self._root = output_dir
        self._known: dict[Path, tuple[int, dict[str, Any] | None]] = {}

    def listed(
        self, layout: str, concept: str, method: str, skip: int, most: int
    ) -> dict[str, Any]:
        """Pictures, the newest first, and how many there are; a filter of "" takes all."""
        found = []
        for path, changed in _entries(self._root / "compose"):
            one = self._read(path, changed)
            if one is None:
                continue
            named = layout in ("", one["layout"]) and method in ("", one["method"])
            if named and concept in ("", *one["concepts"]):
                found.append(one)
        found.sort(key=lambda one: (one["changed"], one["seed"]), reverse=True)
        return {"count": len(found), "pictures": found[skip : skip + most]}

    def _read(self, path: Path, changed: int) -> dict[str, Any] | None:
        known = self._known.get(path)
        if known is None or known[0] != changed:
            known = self._known[path] = changed, self._picture(path, changed)
        return known[1]

    def _picture(self, path: Path, changed: int) -> dict[str, Any] | None:
        entry = read_entry(path)
        if entry is None or entry.get("status") != DONE:
            return None
        method, layout, file = path.relative_to(self._root / "compose").parts
        try:
            inputs = entry["inputs"]
            width, height = size_of(inputs)
            return {
                "layout": layout,
                "method": method,
                "seed": int(inputs["seed"]),
                "concepts": sorted(inputs["concepts"]),
                "prompt": inputs["layout"]["prompt"],
                "width": width,
                "height": height,
                "seconds": entry.get("seconds"),
                "image": address(f"compose/{method}/{entry['image']}"),
                "entry": address(f"compose/{method}/{layout}/{file}"),
                "attention": _beside(path, "_attention.png", method, layout),
                "losses": _beside(path, "_losses.png", method, layout),
                "changed": changed / 1e9,
            }
        except (LookupError, TypeError, ValueError, AttributeError):
            return None


def _beside(path: Path, suffix: str, method: str, layout: str) -> str:
    file = path.with_name(path.stem + suffix)
    return address(f"compose/{method}/{layout}/{file.name}") if file.is_file() else ""


def _entries(root: Path) -> Iterator[tuple[Path, int]]:
    """Each METHOD/LAYOUT/SEED.json, and when it was written, in ns."""
    for method in _folders(root):
        for layout in _folders(method):
            with os.scandir(layout) as files:
                for file in files:
                    if file.name.endswith(".json") and not file.name.startswith("."):
                        yield Path(file.path), file.stat().st_mtime_ns


def _folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as inside:
            return [Path(one.path) for one in inside if one.is_dir()]
    except OSError:
        return []
