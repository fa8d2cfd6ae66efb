"""`failures.jsonl`: what of a batch could not be made, and why, a line each."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.composition.journal import Item
from toolkit.composition.layout_files import Rejected
from toolkit.files import whole_file


def write_failures(folder: Path, rejected: Sequence[Rejected], failed: Mapping[Item, str]) -> None:
    """Write what failed in this run, or remove the file of an earlier run when nothing did."""
    path = folder / "failures.jsonl"
    entries = [
        {"line": wrong.line, "layout": wrong.name, "seed": None, "error": wrong.error}
        for wrong in sorted(rejected, key=lambda wrong: wrong.line)
    ]
    entries += [
        {"line": None, "layout": item.layout.name, "seed": item.seed, "error": error}
        for item, error in failed.items()
    ]
    if not entries:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
