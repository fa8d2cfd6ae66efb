"""A hundred pictures on one page's server: does its memory grow, and what do previews cost?

    python scripts/soak_ui.py [--pictures 100] [--steps 4] [--concepts FOLDER]

Starts `toolkit ui` on the embedded base, orders small pictures of scene1's two subjects through the
API, one job each, every second one without previews, and reads the resident memory of the server
and its worker from /proc (Linux) after each. Prints one JSON line last: memory in MB after the
first ten pictures and at the end, the most in each tenth, and by how much previews at the default
lengthen a picture (seconds inside SEED.json, means of both kinds).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from toolkit.layout.files import read_layouts
from toolkit.layout.mapping import layout_to_mapping

SCENE = Path(__file__).resolve().parent.parent / "configs" / "layout" / "scene1.yaml"


def main() -> None:
    """Run it, and print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--concepts", type=Path, default=Path("outputs/concepts"))
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        typed = [f"output_dir={folder}", f"concepts_dir={asked.concepts.resolve()}", "port=0"]
        server = subprocess.Popen(
            [sys.executable, "-m", "toolkit", "ui", *typed], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        try:
            with httpx.Client(base_url=server.stdout.readline().strip(), timeout=600) as client:
                told = _run(client, server.pid, Path(folder), asked.pictures, asked.steps)
        finally:
            server.terminate()
            server.wait()
    print(json.dumps(told))


def _run(
    client: httpx.Client, server: int, folder: Path, pictures: int, steps: int
) -> dict[str, Any]:
    (layout,) = read_layouts([SCENE])
    memory: list[float] = []
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for seed in range(pictures):
        kind = "without" if seed % 2 else "with"
        order = {"layout": layout_to_mapping(layout), "seeds": [seed], "steps": steps}
        more = {"preview_every": 0} if kind == "without" else {}
        answer = client.post("/api/compose", json=order | more)
        answer.raise_for_status()
        with client.stream("GET", f"/api/jobs/{answer.json()['id']}/events") as events:
            for _ in events.iter_lines():
                pass
        (entry,) = folder.glob(f"compose/*/*/{seed}.json")
        seconds[kind].append(json.loads(entry.read_text())["seconds"])
        memory.append(sum(map(_resident, [server, *_below(server)])))
        print(f"{seed + 1} of {pictures}: {memory[-1]:.0f} MB", file=sys.stderr)
    tenth = max(1, pictures // 10)
    means = {kind: sum(own[1:]) / max(1, len(own) - 1) for kind, own in seconds.items()}
    return {
        "pictures": pictures,
        "memory_after_ten": round(memory[min(9, pictures - 1)], 1),
        "memory_at_the_end": round(memory[-1], 1),
        "most_in_each_tenth": [
            round(max(memory[start : start + tenth]), 1) for start in range(0, pictures, tenth)
        ],
        "seconds": {kind: round(mean, 3) for kind, mean in means.items()},
        "previews_cost": round(means["with"] / means["without"] - 1, 4),
    }


def _below(process: int) -> list[int]:
    """The process's children, and theirs."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *_below(child)]
    return found


def _resident(process: int) -> float:
    """MB in memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    main()
