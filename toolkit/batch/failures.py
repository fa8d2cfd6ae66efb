"""What of a batch could not be made, and why: on screen, and a line each in `failures.jsonl`."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.batch.journal import Item
from toolkit.files import whole_file
from toolkit.layout.files import Rejected

log = logging.getLogger(__name__)

_TOLD = 5
LISTED = 64
"""More lines than this nobody reads."""


def tell_rejected(rejected: Sequence[Rejected]) -> None:
    """Say on screen which lines of a layouts file are left out, and why."""
    wrong = sorted(rejected, key=lambda one: one.line)
    for one in wrong[:LISTED]:
        log.warning("line %d is left out: %s", one.line, one.error)
    if len(wrong) > LISTED:
        log.warning("and %d more lines", len(wrong) - LISTED)


def tell_failures(failed: Mapping[Item, str]) -> None:
    """Say on screen why pictures were not made: of the first few, and how many more there are."""
    for item, error in list(failed.items())[:_TOLD]:
        log.error("not made: %s, seed %d: %s", item.layout.name, item.seed, error)
    if len(failed) > _TOLD:
        log.error("and %d more pictures were not made", len(failed) - _TOLD)


def write_failures(
    folder: Path, rejected: Sequence[Rejected], failed: Mapping[Item, str]
) -> Path | None:
    """Write what failed in this run, or remove the file of an earlier run when nothing did.

    The file, where there is one.
    """
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
        return None
    with whole_file(path) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path
