"""`toolkit concepts`: what is trained and imported, told by the files' headers."""

from collections.abc import Sequence
from pathlib import Path

from toolkit.concept.header import read_header
from toolkit.concept.inspected import called_by, kind_of_concept, settings_in
from toolkit.concept.stored import CONES2, FORMAT, FUSION
from toolkit.errors import InputError

COLUMNS = ("concept", "base", "kind", "rank", "steps", "trigger", "MB", "picture")


def concepts_in(folder: Path, runs: Path) -> list[tuple[str, ...]]:
    """A row of COLUMNS for each concept file in `folder`; what is missing is "-".

    runs: where trainings leave their grids of samples.
    """
    paths = [*folder.glob("*/*.safetensors"), *folder.glob(f"*/{CONES2}/*.safetensors")]
    return [_row(path, path.relative_to(folder).parent, runs) for path in sorted(paths)]


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows under their columns' names, as wide as what stands in them."""
    lines = [COLUMNS, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _row(path: Path, place: Path, runs: Path) -> tuple[str, ...]:
    """place: the folder of its base and recipe, as concepts and trainings have it."""
    name, base = path.stem, place.parts[0]
    size = f"{path.stat().st_size / 1e6:.1f}"
    try:
        header = read_header(path)
    except InputError:
        return (name, base, "damaged", "-", "-", "-", size, "-")
    if header.metadata.get("format") != FORMAT:
        return (name, base, "no concept: toolkit import reads it", "-", "-", "-", size, "-")
    settings = settings_in(header.metadata)
    if FUSION in settings:
        kind = f"fusion of {settings.get('concepts', '?')}"
        return (name, base, kind, header.metadata.get("rank", "-"), "-", "-", size, "-")
    origin = "trained" if settings else "imported"
    grids = sorted((runs / "train" / place / name / "samples").glob("step_*.png"))
    return (
        name,
        base,
        f"{kind_of_concept(header)}, {origin}",
        header.metadata.get("rank", "-"),
        settings.get("steps", "-"),
        called_by(header.metadata),
        size,
        str(grids[-1]) if settings and grids else "-",
    )
