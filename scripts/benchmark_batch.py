"""What a batch costs beside its pictures: `python scripts/benchmark_batch.py --pictures 5000`.

Composes many tiny pictures of the reference model, one step each, in this process, and then asks
for them again. Bookkeeping is all time that is not the pictures': reading and checking layouts,
scheduling, hashing, journal and manifest. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from toolkit.batch.journal import read_entry
from toolkit.cli import main as toolkit

REFERENCE = Path(__file__).resolve().parent.parent / "tests" / "reference"


def resident_bytes() -> int:
    """This process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def write_layouts(path: Path, count: int) -> None:
    """`count` layouts with one region each."""
    box = [0.1, 0.1, 0.9, 0.9]
    lines = [
        {
            "name": f"l{number}",
            "prompt": f"picture {number}",
            "width": 64,
            "height": 64,
            "regions": [{"concept": "dog", "prompt": "<dog>", "box": box}],
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Compose, time, and compose again with nothing missing."""
    folder: Path = arguments.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    base = f"model.path={REFERENCE / 'model'}"
    out = f"output_dir={folder / 'out'}"
    toolkit(["import", str(REFERENCE / "concepts" / "dog.pth"), "concept=dog", base, out])
    write_layouts(folder / "few.jsonl", 50)
    write_layouts(folder / "many.jsonl", arguments.pictures)

    def run(file: str, *more: str) -> float:
        started = time.perf_counter()
        code = toolkit(
            ["compose", f"layouts={folder / file}", base, out, "model.guidance_downscale=2"]
            + ["sampling.steps=1", "figures=false", "trainer=cpu", *more]
        )
        if code:
            raise SystemExit(f"composing ended with {code}")
        return time.perf_counter() - started

    run("few.jsonl", "overwrite=true")  # what a process needs once: imports, first allocations
    first_bytes, alone = resident_bytes(), run("few.jsonl")
    wall = run("many.jsonl", "overwrite=true")
    last_bytes = resident_bytes()
    again = run("many.jsonl")
    entries = [read_entry(path) for path in (folder / "out" / "compose").glob("*/*/0.json")]
    pictures = sum(float(entry["seconds"]) for entry in entries if entry)
    return {
        "pictures": arguments.pictures,
        "wall_s": round(wall, 1),
        "pictures_s": round(pictures, 1),
        "bookkeeping_ms_each": round(1000 * (wall - alone - pictures) / arguments.pictures, 2),
        "nothing_missing_ms_each": round(1000 * (again - alone) / arguments.pictures, 2),
        "first_bytes": first_bytes,
        "last_bytes": last_bytes,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--work", type=Path, default=Path("benchmark_batch"))
    arguments = parser.parse_args(argv)
    logging.disable(logging.INFO)
    print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
