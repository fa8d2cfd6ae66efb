"""`sampling.upscale` and `sampling.detail`: pictures that are there are taken further, once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from toolkit.batch import further
from toolkit.cli import main
from toolkit.sampling import Step

CONCEPT = Path(__file__).parent.parent / "reference/concepts/dog.pth"
LAYOUT = {
    "name": "a",
    "prompt": "a dog",
    "width": 128,
    "height": 128,
    "regions": [{"concept": "dog", "prompt": "<dog>", "box": [0.25, 0.25, 0.75, 0.75]}],
}
Run = Callable[..., int]


@pytest.fixture
def run(tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Composes a.yaml in a folder with one imported concept."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(json.dumps(LAYOUT))
    base = f"model.path={tiny_base_folder}"
    assert main(["import", str(CONCEPT), "concept=dog", base]) == 0
    given = ("compose", "layout=a.yaml", "method=fast", base, "model.width=128", "model.height=128")
    quick = ("sampling.steps=3", "trainer=cpu", "logger=none", "figures=false")
    return lambda *more: main([*given, *quick, *more])


def made(folder: Path, method: str, seed: int = 0) -> tuple[bytes, dict[str, object]]:
    path = folder / "outputs/compose" / method / "a" / str(seed)
    return path.with_suffix(".png").read_bytes(), json.loads(path.with_suffix(".json").read_text())


TWICE = "fast+upscale=2"
BOTH = "fast+detail=true+upscale=1.5"


def test_a_picture_is_the_same_whether_its_first_was_there_or_not(run: Run, tmp_path: Path) -> None:
    assert run("sampling.upscale=2") == 0
    at_once, entry = made(tmp_path, TWICE)
    first, of_first = made(tmp_path, "fast")
    assert Image.open(tmp_path / "outputs/compose" / TWICE / "a/0.png").size == (256, 256)
    assert entry["inputs"]["second"]["upscale"] == 2
    assert entry["further"]["first"] == {"method": "fast", "sha256": of_first["sha256"]}
    assert entry["passes"] < of_first["passes"]
    (tmp_path / "outputs/compose" / TWICE / "a/0.json").unlink()
    assert run("sampling.upscale=2") == 0
    assert made(tmp_path, TWICE)[0] == at_once
    assert made(tmp_path, "fast") == (first, of_first)


def test_what_is_there_is_not_made_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("seeds=2") == 0
    firsts = [made(tmp_path, "fast", seed) for seed in (0, 1)]
    assert run("seeds=2", "sampling.upscale=2") == 0
    assert [made(tmp_path, "fast", seed) for seed in (0, 1)] == firsts
    monkeypatch.delattr(further, "take_further")
    assert run("seeds=2", "sampling.upscale=2") == 0
    for method, width in (("fast", 128), (TWICE, 256)):
        table = parquet.read_table(tmp_path / "outputs/compose" / method / "manifest.parquet")
        assert [(row["method"], row["width"]) for row in table.to_pylist()] == [(method, width)] * 2


def test_one_that_fails_leaves_its_first_and_the_next_run_goes_on_with_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.delattr(further, "take_further")
        assert run("sampling.upscale=2") == 1
    first = made(tmp_path, "fast")
    assert run("sampling.upscale=2") == 0
    assert made(tmp_path, "fast") == first


def test_other_second_passes_stand_beside_and_say_what_they_did(run: Run, tmp_path: Path) -> None:
    assert run("sampling.upscale=1.5", "sampling.detail=true") == 0
    _, entry = made(tmp_path, BOTH)
    assert entry["inputs"]["second"]["detail_size"] == [128, 128]
    assert entry["further"]["size"] == [192, 192]
    assert entry["further"]["tiles"] == [[0, 0, 192, 192]]
    assert entry["further"]["refined"] == []  # 96 pixels and their margin are large already
    assert run("sampling.detail=true") == 0
    _, small = made(tmp_path, "fast+detail=true")
    assert small["further"]["refined"] == [
        {"region": 0, "concept": "dog", "cut": [16, 16, 112, 112]}
    ]
    told = Image.open(tmp_path / "outputs/compose" / BOTH / "a/0.png").text
    assert json.loads(told["toolkit"])["further"] == entry["further"]
    assert "Size: 192x192" in told["parameters"] and "Hires upscale: 1.5" in told["parameters"]


def test_every_step_of_both_passes_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    expected: list[int] = []

    class Watched(further.FurtherComposer):
        def on_predict_batch_start(self, batch: list[further.Item], batch_idx: int) -> None:
            counting = self.on_step
            expected.extend(range(-1, self.passes_of(batch[0])))

            def on_step(step: Step) -> None:
                shown.append(step.number)
                counting(step)

            self.on_step = on_step

    monkeypatch.setattr(further, "FurtherComposer", Watched)
    both = ("sampling.upscale=2", "sampling.detail=true")
    assert run(*both, "model.width=512", "model.height=512") == 0
    assert shown == expected
    assert len(shown) == 1 + 3 + 1 + 1  # re-initialisation, the first picture, and what follows
