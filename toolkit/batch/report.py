"""What is said and written when a batch has ended."""

import logging
from collections.abc import Sequence
from pathlib import Path

from toolkit.batch.failures import LISTED, tell_failures, write_failures
from toolkit.batch.journal import Item, error_of, write_manifest
from toolkit.layout.files import Rejected

log = logging.getLogger(__name__)


def tell_there(items: Sequence[Item], missing: Sequence[Item]) -> None:
    """Say how many pictures are there already, if any are."""
    if len(missing) < len(items):
        log.info("%d of %d pictures are there already", len(items) - len(missing), len(items))


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
    write_failures(folder, rejected, failed)
    log.info("manifest: %s", write_manifest(folder, method))
    return 1 if failed or rejected else 0
