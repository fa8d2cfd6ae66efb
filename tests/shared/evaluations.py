"""A folder in which whole evaluations run on the tiny base."""

import csv
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from toolkit.cli import main
from toolkit.concept import Concept, save_concept

LAYOUT = """
name: {name}
prompt: a dog and a cat on grass
width: 128
height: 64
regions:
  - {{concept: dog, prompt: <dog> on grass, box: [0.0, 0.0, 0.5, 1.0]}}
  - {{concept: cat, prompt: "<cat>, sitting", box: [0.5, 0.0, 1.0, 1.0]}}
"""


class Work:
    """A folder with two layouts, and a dog, a cat and a fox trained on the tiny base."""

    def __init__(self, folder: Path, base: Path, concepts: Mapping[str, Concept]) -> None:
        self.folder = folder
        self.base = base
        for name in ("dog", "cat", "fox"):
            save_concept(concepts[name], folder / f"out/concepts/tiny/{name}.safetensors")
        for name in ("one", "two"):
            (folder / f"{name}.yaml").write_text(LAYOUT.format(name=name))

    def run(self, command: str, *arguments: str) -> int:
        """The exit code of a command on the tiny base, in pictures of two steps."""
        return main(
            [
                command,
                *arguments,
                f"model.path={self.base}",
                "model.name=tiny",
                "model.width=64",
                "model.height=64",
                f"output_dir={self.folder / 'out'}",
            ]
        )

    def evaluate(self, *arguments: str) -> int:
        """The exit code of `toolkit evaluate` on the two layouts."""
        layouts = ",".join(str(self.folder / f"{name}.yaml") for name in ("one", "two"))
        return self.run(
            "evaluate",
            f"layout={layouts}",
            "seeds=2",
            "judge=imagenet",
            "sampling.steps=2",
            "trainer=cpu",
            *arguments,
        )

    @property
    def rows(self) -> list[dict[str, str]]:
        """The lines of scores.csv."""
        with (self.folder / "out/evaluation/scores.csv").open() as file:
            return list(csv.DictReader(file))

    def paint(self, folder: str, colour: str = "orange") -> Path:
        """What another program made: every picture of the layouts, of one colour."""
        for layout in ("one", "two"):
            for seed in (0, 1):
                path = self.folder / folder / layout / f"{seed}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (128, 64), colour).save(path)
        return self.folder / folder
