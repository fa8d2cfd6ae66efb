"""The notebook of docs/python.md runs, cell by cell, as it stands there."""

import re
from pathlib import Path

import pytest
from PIL import Image

from toolkit import train

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
NUMBERS, SMALL = "steps, training_steps = 25, 200", "steps, training_steps = 2, 1"
QUICK = {"training.batch_size": 1, "training.sample_every_steps": 0, "trainer": "cpu"}


@pytest.fixture
def in_a_folder_with_two_concepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `toolkit train concept=dog,cat` would leave, after one step each."""
    monkeypatch.chdir(tmp_path)
    for name in ("dog", "cat"):
        train(name, steps=1, settings=QUICK)


@pytest.mark.usefixtures("in_a_folder_with_two_concepts")
def test_every_cell_runs(capsys: pytest.CaptureFixture[str]) -> None:
    cells = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert NUMBERS in cells[0]
    names: dict[str, object] = {"__name__": "notebook"}
    for number, cell in enumerate(cells):
        exec(compile(cell.replace(NUMBERS, SMALL), f"{PAGE.name}, cell {number}", "exec"), names)
    pictures = names["pictures"]
    assert isinstance(pictures, list) and len(pictures) == 2
    assert all(isinstance(one, Image.Image) and one.size == (256, 128) for one in pictures)
    printed = capsys.readouterr().out
    assert "<dog> is a dog of rank 4 on mini" in printed
    assert "names cat, and the concepts given are dog" in printed
