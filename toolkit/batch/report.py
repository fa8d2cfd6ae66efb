"""What is said and written when a batch has ended."""

import logging
from collections.abc import Sequence
from pathlib import Path

from toolkit.batch.failures import LISTED, tell_failures, write_failures
from toolkit.batch.journal import Item, error_of, write_manifest
from toolkit.layout.files import Rejected
from toolkit.text.wording import counted

log = logging.getLogger(__name__)


def tell_all_there(items: Sequence[Item]) -> None:
    """Say that nothing is left to make."""
    log.info("%d of %d pictures are there already", len(items), len(items))


def tell_plan(
    items: Sequence[Item], missing: Sequence[Item], what: str, steps: int, how: str
) -> None:
    """Say what is about to be made, in one line.

    what: by which method, on which base. how: where, and how many at once.
    """
    layouts = counted(len({item.layout.name for item in items}), "layout")
    there = len(items) - len(missing)
    done = f" ({there} of {len(items)} pictures are there already)" if there else ""
    log.info(
        "%s: %s, %s to make%s, %s each; %s",
        what, layouts, counted(len(missing), "picture"), done, counted(steps, "step"), how,
    )  # fmt: skip


def report(made: Sequence[Item], items: Sequence[Item], folder: Path) -> dict[Item, str]:
    """List what was made now and tell what failed; why, by item."""
    failed = {item: error for item in items if (error := error_of(item, folder)) is not None}
    whole = [item for item in made if item not in failed]
    if len(whole) <= LISTED:
        for item in whole:
            log.info("%s", item.path(folder, ".png"))
    tell_failures(failed)
    return failed


def end_of_composing(
    made: Sequence[Item],
    items: Sequence[Item],
    folder: Path,
    method: str,
    rejected: Sequence[Rejected],
) -> int:
    """Report, and write the failures and the manifest; 0, or 1 when some pictures failed."""
    failed = report(made, items, folder)
    listed = write_failures(folder, rejected, failed)
    if listed:
        wrong = [counted(len(rejected), "line") + " left out"] if rejected else []
        wrong += [counted(len(failed), "picture") + " not made"] if failed else []
        log.error("%s: all are listed in %s", " and ".join(wrong), listed)
    log.info("manifest: %s", write_manifest(folder, method))
    return 1 if failed or rejected else 0


def interrupted(
    items: Sequence[Item], folder: Path, method: str, rejected: Sequence[Rejected]
) -> None:
    """Of a run that ends before its time: list what is there, so that it can be looked at."""
    reached = [item for item in items if item.path(folder, ".json").is_file()]
    failed = {item: error for item in reached if (error := error_of(item, folder)) is not None}
    write_failures(folder, rejected, failed)
    log.info("manifest: %s", write_manifest(folder, method))
    log.info(
        "%d of %d pictures are there; the same command makes the rest",
        len(reached) - len(failed), len(items),
    )  # fmt: skip
