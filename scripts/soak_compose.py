"""Kill a batch again and again, and see that nothing is lost: `python scripts/soak_compose.py`.

Each round starts two processes on 40 pictures of a tiny base, kills one of them or both with
SIGKILL at a random moment, and runs the same command to its end. Then every picture must be there
once, whole, with the right hash, and equal to an undisturbed run's. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pyarrow import parquet

REFERENCE = Path(__file__).resolve().parent.parent / "tests" / "reference"
REGIONS = [
    {"concept": "dog", "prompt": "<dog>, sitting", "box": [0.05, 0.1, 0.45, 0.9]},
    {"concept": "cat", "prompt": "<cat>", "box": [0.55, 0.2, 0.95, 0.9]},
]


def write_layouts(path: Path, count: int) -> None:
    """`count` layouts, a line each."""
    lines = [
        {"name": f"l{i}", "prompt": f"picture {i}", "width": 256, "height": 192, "regions": REGIONS}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def command(folder: Path, steps: int, *arguments: str) -> list[str]:
    """The toolkit's command line for this batch."""
    return [
        *(sys.executable, "-m", "toolkit", "compose", f"layouts={folder / 'many.jsonl'}"),
        *(f"model.path={REFERENCE / 'model'}", f"output_dir={folder / 'out'}", "figures=false"),
        *(f"sampling.steps={steps}", "trainer=ddp", "trainer.accelerator=cpu"),
        *arguments,
    ]


def start(folder: Path, steps: int) -> subprocess.Popen[bytes]:
    """Two processes, in a group of their own."""
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command(folder, steps, "trainer.devices=2"),
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def processes_of(group: int) -> list[int]:
    """The members of a process group that run the toolkit."""
    found = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


def results(folder: Path) -> dict[str, str]:
    """The hash of each picture, as its file has it now; checked against the journal's."""
    compose = folder / "out" / "compose" / "lora_composer"
    found = {}
    for row in parquet.read_table(compose / "manifest.parquet").to_pylist():
        content = (compose / row["image"]).read_bytes()
        if row["status"] != "done" or hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise SystemExit(f"{row['layout']} is not whole: {row}")
        found[row["layout"]] = row["sha256"]
    if list(compose.rglob("*.partial*")):
        logging.info("temporary files of killed processes are left behind")
    return found


def one_round(folder: Path, steps: int, seconds: float, both: bool, chance: random.Random) -> int:
    """Kill a run after some seconds, then run to the end; returns how many were done by then."""
    shutil.rmtree(folder / "out" / "compose", ignore_errors=True)
    running = start(folder, steps)
    time.sleep(seconds)
    members = processes_of(running.pid)
    for victim in members if both else chance.sample(members, min(1, len(members))):
        os.kill(victim, signal.SIGKILL)
    running.wait(timeout=300)
    for survivor in processes_of(running.pid):
        os.kill(survivor, signal.SIGKILL)
    done = len(list((folder / "out" / "compose").rglob("*.json")))
    if start(folder, steps).wait(timeout=600) != 0:
        raise SystemExit("the run after the kill did not end well")
    return done


def main(argv: Sequence[str] | None = None) -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("soak"))
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    folder = arguments.work.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write_layouts(folder / "many.jsonl", arguments.pictures)
    for name in ("dog", "cat"):
        file, target = str(REFERENCE / "concepts" / f"{name}.pth"), f"output_dir={folder / 'out'}"
        subprocess.run(
            [sys.executable, "-m", "toolkit", "import", file, f"concept={name}", "overwrite=true"]
            + [f"class_word={name}", f"model.path={REFERENCE / 'model'}", target],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    shutil.rmtree(folder / "out" / "compose", ignore_errors=True)
    started = time.monotonic()
    if start(folder, arguments.steps).wait(timeout=900) != 0:
        raise SystemExit("the undisturbed run did not end well")
    whole = time.monotonic() - started
    expected = results(folder)
    if len(expected) != arguments.pictures:
        raise SystemExit(f"the undisturbed run made {len(expected)} pictures")
    chance = random.Random(0)
    done_when_killed = []
    for number in range(arguments.rounds):
        seconds, both = chance.uniform(0.2, 0.95) * whole, number % 2 == 1
        done_when_killed.append(one_round(folder, arguments.steps, seconds, both, chance))
        if results(folder) != expected:
            raise SystemExit(f"round {number}: the pictures differ from the undisturbed run's")
        logging.info(
            "round %d: %s killed after %.1f s with %d pictures done; all right after the rerun",
            number,
            "both" if both else "one",
            seconds,
            done_when_killed[-1],
        )
    print(
        json.dumps(
            {
                "rounds": arguments.rounds,
                "pictures": arguments.pictures,
                "done_when_killed": done_when_killed,
                "lost": 0,
            }
        )
    )


if __name__ == "__main__":
    main()
