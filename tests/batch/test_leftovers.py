"""Nothing that was not made passes as made: what fails is told, and nothing old stands there."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from pyarrow import parquet

from toolkit.batch import module, writer
from toolkit.cli import main

CONCEPT = Path(__file__).parent.parent / "reference/concepts/dog.pth"
Run = Callable[..., int]


def scene(name: str = "a", prompt: str = "a dog", **change: object) -> str:
    region = {"concept": "dog", "prompt": "<dog>", "box": [0, 0, 1, 1]}
    content = {"name": name, "prompt": prompt, "width": 128, "height": 128, "regions": [region]}
    return json.dumps(content | change)


@pytest.fixture
def run(
    tiny_base_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Run:
    """Composes a.yaml, or what is given, in a folder with one imported concept."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "toolkit")
    (tmp_path / "a.yaml").write_text(scene())
    base = f"model.path={tiny_base_folder}"
    assert main(["import", str(CONCEPT), "concept=dog", base]) == 0

    def compose(*arguments: str) -> int:
        of = () if any(text.startswith("layouts=") for text in arguments) else ("layout=a.yaml",)
        caplog.clear()
        given = ("compose", *of, base, "sampling.steps=1", "trainer=cpu", "logger=none")
        return main([*given, *arguments])

    return compose


def files(folder: Path) -> list[str]:
    found = folder.glob("outputs/compose/lora_composer/a/*")
    return sorted(path.name for path in found if path.is_file())


def manifest(folder: Path) -> list[tuple[str, int, str]]:
    rows = parquet.read_table(folder / "outputs/compose/lora_composer/manifest.parquet")
    return [(row["layout"], row["seed"], row["status"]) for row in rows.to_pylist()]


def fail_seed(monkeypatch: pytest.MonkeyPatch, wrong: int, error: BaseException) -> None:
    compose = module.compose

    def failing(
        base: object, method: object, ready: object, seeds: list[int], *rest: object
    ) -> object:
        if wrong in seeds:
            raise error
        return compose(base, method, ready, seeds, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "compose", failing)


@pytest.mark.parametrize(
    "more",
    [
        ("overwrite=true",),
        ("method.step_size=1", "method.name=lora_composer"),
        ("sampling.steps=2",),
    ],
)
def test_what_a_short_run_did_not_reach_is_missing(
    more: tuple[str, ...], run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("seeds=2") == 0
    assert run("seeds=2", "trainer.limit_predict_batches=1", "figures=false", *more) == 1
    assert files(tmp_path) == ["0.json", "0.png"]
    assert manifest(tmp_path) == [("a", 0, "done")]
    assert "not made: a, seed 1: it was not made" in caplog.text
    assert "a/0.png" in caplog.text and "a/1.png" not in caplog.text
    assert run("seeds=2", "figures=false", *more) == 0
    assert files(tmp_path) == ["0.json", "0.png", "1.json", "1.png"]


@pytest.mark.parametrize(
    "error",
    [
        TypeError("text must be str\nsecond line"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
        KeyError("to_k"),
        OSError(36, "File name too long", "x"),
    ],
)
def test_a_picture_that_fails_for_any_reason_is_told_and_the_others_are_made(
    error: Exception,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert run("seeds=3") == 0
    fail_seed(monkeypatch, 1, error)
    assert run("seeds=3", "batch_size=3", "overwrite=true", "figures=false") == 1
    assert "not made: a, seed 1: " in caplog.text
    assert "Traceback" not in caplog.text and "a/1.png" not in caplog.text
    assert files(tmp_path) == ["0.json", "0.png", "1.json", "2.json", "2.png"]
    assert [status for _, _, status in manifest(tmp_path)] == ["done", "failed", "done"]
    (failed,) = (tmp_path / "outputs/compose/lora_composer/failures.jsonl").read_text().splitlines()
    assert json.loads(failed)["seed"] == 1
    entry = json.loads((tmp_path / "outputs/compose/lora_composer/a/1.json").read_text())
    assert ("trace" in entry) == isinstance(error, TypeError | KeyError | OSError)


def test_the_bar_ends_with_what_was_made_and_what_has_failed(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_seed(monkeypatch, 1, ValueError("no"))
    assert run("seeds=4", "batch_size=4", "figures=false") == 1
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert "4/4" in last and "done=3, failed=1" in last, last
    assert run("seeds=9", "batch_size=2", "trainer.limit_predict_batches=1") == 1
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert "2/6" in last and "done=1, failed=1" in last, last


def test_a_run_says_what_it_will_do_and_where_what_failed_is_listed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "many.jsonl").write_text("\n".join([scene(), "{", scene("b")]))
    assert run("seeds=2") == 0
    assert (
        "lora_composer on tiny: 1 layout, 2 pictures to make, 1 step each; cpu, 32-true, 1 at "
        in (caplog.text)
    )
    assert "failures.jsonl" not in caplog.text
    fail_seed(monkeypatch, 1, ValueError("no"))
    assert run("layouts=many.jsonl", "seeds=2", "batch_size=3") == 1
    assert "2 layouts, 2 pictures to make (2 of 4 pictures are there already)" in caplog.text
    assert "3 at once" in caplog.text
    listed = "outputs/compose/lora_composer/failures.jsonl"
    assert f"1 line left out and 1 picture not made: all are listed in {listed}" in caplog.text
    assert len((tmp_path / listed).read_text().splitlines()) == 2


def test_of_many_failures_the_first_few_are_told_and_the_rest_counted(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_given: object) -> object:
        raise ValueError("no")

    monkeypatch.setattr(module, "compose", failing)
    assert run("seeds=9") == 1
    assert caplog.text.count("not made: a, seed") == 5
    assert "and 4 more pictures were not made" in caplog.text
    assert "/a/0.png" not in caplog.text


def test_a_figure_that_cannot_be_drawn_is_a_failed_picture_and_leaves_none(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_given: object) -> object:
        raise ValueError("no")

    monkeypatch.setattr(writer, "loss_figure", failing)
    assert run() == 1
    assert files(tmp_path) == ["0.json"]


def test_a_place_that_cannot_be_written_costs_its_own_pictures_only(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "two.jsonl").write_text(scene("a") + "\n" + scene("b"))
    (tmp_path / "outputs/compose/lora_composer").mkdir(parents=True)
    (tmp_path / "outputs/compose/lora_composer/b").write_text("a file")
    assert run("layouts=two.jsonl", "figures=false") == 1
    assert files(tmp_path) == ["0.json", "0.png"]
    assert "not made: b, seed 0" in caplog.text


@pytest.mark.parametrize(
    "entry",
    [
        {"inputs": {"layout": {"name": "x"}, "seed": 2**63, "concepts": {}}, "status": "done"},
        {"inputs": {"layout": {"name": "\ud83d"}, "seed": 1, "concepts": {}}, "status": "done"},
        {"inputs": {"layout": {"name": ["x"]}, "seed": 1, "concepts": {}}, "status": "done"},
        {"inputs": {"layout": {"name": "x"}, "seed": "1", "concepts": {}}, "status": "done"},
        {"inputs": {"layout": {"name": "x"}, "seed": 1, "concepts": [1]}, "status": "done"},
        {"inputs": {"layout": {"name": "x"}, "seed": 1, "concepts": {}}},
        {"inputs": {"layout": {"name": "x"}, "seed": 1, "concepts": 3}, "losses": 7, "status": ""},
        {"inputs": 3, "status": "done"},
        {"inputs": {"seed": 1}, "status": "done", "losses": ["low"]},
    ],
)
def test_a_result_that_is_no_row_spoils_no_manifest(
    entry: dict[str, object], run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strange = tmp_path / "outputs/compose/lora_composer/x/1.json"
    strange.parent.mkdir(parents=True)
    strange.write_text(json.dumps(entry))
    assert run("figures=false") == 0
    assert manifest(tmp_path) == [("a", 0, "done")]
    assert "1 results cannot stand in the manifest" in caplog.text
