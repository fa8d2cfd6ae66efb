"""A real `toolkit ui` in a process of its own, and what tests ask of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from toolkit.backbones import Base
from toolkit.concept import save_concept
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.stored import concept_path

CONCEPTS = Path(__file__).parents[1] / "reference" / "concepts"


class Server:
    """`toolkit ui` or `toolkit rate`, and a client that may ask it. address: as it was printed."""

    def __init__(self, folder: Path, base: Path | None, *typed: str, command: str = "ui") -> None:
        """base: None takes the embedded one, which `toolkit rate` never loads."""
        chosen = [f"model.path={base}", "model.guidance_downscale=4"] if base else []
        self.folder = folder
        self.log = (folder / "server.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "toolkit", command, *chosen, "port=0", *typed],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self.client = httpx.Client(base_url=self.address, timeout=60)

    def make(self, **asked: Any) -> dict[str, Any]:
        """Queue a layout; its job."""
        answer = self.client.post("/api/compose", json=order(**asked))
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, job: str) -> dict[str, Any]:
        return dict(self.client.get(f"/api/jobs/{job}").json())

    def events(self, job: str) -> Iterator[str]:
        """The names of a job's events, as they come, until it is over."""
        with self.client.stream("GET", f"/api/jobs/{job}/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    yield line.removeprefix("event: ")

    def wait(self, job: str) -> dict[str, Any]:
        """The job once it is over."""
        for _ in self.events(job):
            pass
        return self.job(job)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.kill()
        self.log.close()


def order(name: str = "pair", seeds: int | list[int] = 1, **more: Any) -> dict[str, Any]:
    """What `POST /api/compose` is given: two small pictures' worth of work at most."""
    layout = {
        "name": name,
        "prompt": "a dog and a cat",
        "width": 128,
        "height": 64,
        "regions": [
            {"concept": "dog", "prompt": "<dog>, sitting", "box": [0.0, 0.0, 0.25, 1.0]},
            {"concept": "cat", "prompt": "<cat>, sitting", "box": [0.5, 0.0, 1.0, 1.0]},
        ],
    } | more.pop("layout", {})
    return {"layout": layout, "method": "fast", "seeds": seeds, "steps": 4} | more


def until(true: Any, seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.05)


def put_concepts(folder: Path, base: Base) -> None:
    """Keep the reference concepts under `folder`/outputs as trained ones."""
    for name in ("dog", "cat"):
        concept = read_foreign(CONCEPTS / f"{name}.pth", name, base, name)
        save_concept(concept, concept_path(folder / "outputs" / "concepts", "tiny", name))
