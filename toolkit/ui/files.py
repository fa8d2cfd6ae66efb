"""Which files of the output folder may be seen through the server."""

from pathlib import Path

_SEEN = {".png", ".jpg", ".jpeg", ".webp", ".json", ".csv", ".yaml"}


def file_of(root: Path, path: str) -> Path | None:
    """The file at `path` under `root`; None for one outside, one that is hidden, or of other kinds.

    Links are followed first, so that none leads outside.
    """
    if "\0" in path or Path(path).suffix.lower() not in _SEEN:
        return None
    try:
        inside, found = root.resolve(), (root / path).resolve()
        if not found.is_relative_to(inside) or not found.is_file():
            return None
    except (OSError, RuntimeError, ValueError):
        return None
    parts = found.relative_to(inside).parts
    if any(part.startswith(".") for part in parts) or parts[0] == "ui":
        return None
    return found
