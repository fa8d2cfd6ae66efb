"""`toolkit compose layouts=FILE.jsonl`, as a person runs it: in processes of its own, on a CPU."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from toolkit.files import sha256_of

CONCEPTS = Path(__file__).parent.parent / "reference" / "concepts"
REGIONS = [
    {"concept": "dog", "prompt": "<dog>, sitting", "box": [0.05, 0.1, 0.45, 0.9]},
    {"concept": "cat", "prompt": "<cat>", "box": [0.55, 0.2, 0.95, 0.9]},
]


def line(name: str, **change: object) -> str:
    content = {"name": name, "prompt": "a dog and a cat", "width": 256, "height": 192}
    return json.dumps(content | {"regions": REGIONS} | change)


GOOD = [line(f"l{i}", prompt=f"picture {i}") for i in range(3)] + [line("tall", width=192)]
WRONG = {
    2: ("{not json", "is not JSON"),
    4: (line("l0"), "stands in line 1 already"),
    6: (line("max", regions=[{**REGIONS[0], "concept": "max", "prompt": "<max>"}]), "not trained"),
    8: (line("odd", width=250), "multiples of 64"),
    9: (line("long", prompt="grass " * 90), "lost: "),
    11: (line("s", prompt="a \ud83d dog"), "half of a character"),
    12: (line("a" * 260), "too long to be the name of a file"),
    13: (
        line("deep").replace('"width"', '"x": ' + "[" * 100_000 + ', "width"'),
        "nested too deeply",
    ),
    14: (line("huge", width=2**20, height=2**20), "at most 16384"),
    15: (line("large", width=16384, height=16384), "of memory, and this machine has"),
    16: (line("strong", regions=[{**REGIONS[0], "strength": float("inf")}]), "is no number"),
    17: (line("file", regions=[{**REGIONS[0], "concept": "x/" * 3000 + "dog.pth"}]), "too long"),
    10: (line("out", regions=[{**REGIONS[0], "box": [0.5, 0, 1.5, 1]}]), "needs 0 <= x0"),
}


def toolkit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toolkit", *arguments, f"output_dir={folder / 'out'}"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )


def compose(folder: Path, base: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return toolkit(
        folder,
        "compose",
        f"layouts={folder / 'many.jsonl'}",
        f"model.path={base}",
        "sampling.steps=2",
        "figures=false",
        *arguments,
    )


TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


def start(folder: Path, base: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Two processes at work on many.jsonl; what both say goes to one pipe.

    They heed Ctrl-C even where the tests were started in the background, which ignores it.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "toolkit", "compose", "layouts=many.jsonl", f"model.path={base}"]
        + ["sampling.steps=2", "figures=false", *TWO, *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture(scope="module")
def work(tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of many layouts, some of them wrong, and two imported concepts."""
    folder = tmp_path_factory.mktemp("batch")
    for name in ("dog", "cat"):
        file = str(CONCEPTS / f"{name}.pth")
        where = f"model.path={tiny_base_folder}"
        made = toolkit(folder, "import", file, f"concept={name}", f"class_word={name}", where)
        assert made.returncode == 0, made.stderr
    lines, good = [], iter(GOOD)
    for number in range(1, 18):
        lines.append(WRONG[number][0] if number in WRONG else next(good))
    (folder / "many.jsonl").write_text("\n".join(lines))
    return folder


def last_of_bar(said: str) -> str:
    """What the progress bar showed at the end."""
    return [
        line for line in said.replace("\r", "\n").splitlines() if "step" in line and "|" in line
    ][-1]


def pictures(folder: Path) -> dict[str, str]:
    """The hash of each finished picture."""
    rows = parquet.read_table(folder / "out/compose/lora_composer/manifest.parquet").to_pylist()
    assert all(row["status"] == "done" for row in rows)
    return {f"{row['layout']}/{row['seed']}": row["sha256"] for row in rows}


def test_two_processes_make_every_picture_once_and_a_rerun_only_what_is_missing(
    work: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    folder = work / "out/compose/lora_composer"
    made = compose(work, tiny_base_folder, "seeds=2", *TWO)
    assert made.returncode == 1, made.stderr
    assert (
        made.stderr.count(": 4 layouts, 8 pictures to make, 2 steps each; 2 processes on cpu") == 1
    )
    assert made.stderr.count("line 2 is left out") == 1
    listed = f"{len(WRONG)} lines left out: all are listed in {folder / 'failures.jsonl'}\n"
    assert made.stderr.count(listed) == 1
    assert "16/16" in last_of_bar(made.stderr) and "done=8, failed=0" in last_of_bar(made.stderr)
    both = pictures(work)
    assert set(both) == {f"{name}/{seed}" for name in ("l0", "l1", "l2", "tall") for seed in (0, 1)}
    rows = parquet.read_table(folder / "manifest.parquet").to_pylist()
    assert sorted(row["rank"] for row in rows) == [0] * 4 + [1] * 4
    told = [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]
    assert {entry["line"] for entry in told} == set(WRONG)
    for entry in told:
        assert WRONG[entry["line"]][1] in entry["error"]

    (folder / "l1" / "1.png").unlink()
    kept = (folder / "l0" / "0.png").stat().st_mtime_ns
    again = compose(work, tiny_base_folder, "seeds=2", *TWO)
    assert "7 of 8 pictures are there already" in again.stderr
    assert again.returncode == 1 and "Traceback" not in again.stderr
    assert (folder / "l0" / "0.png").stat().st_mtime_ns == kept
    assert pictures(work) == both

    alone = compose(work, tiny_base_folder, "seeds=2", "trainer=cpu", "overwrite=true")
    assert alone.returncode == 1, alone.stderr
    assert (folder / "l0" / "0.png").stat().st_mtime_ns != kept
    assert pictures(work) == both


def test_strict_starts_nothing_when_a_line_is_wrong(work: Path, tiny_base_folder: Path) -> None:
    made = compose(work, tiny_base_folder, "strict=true", "seeds=[9]", "trainer=cpu")
    assert made.returncode == 2
    assert "line 2 of the layouts file" in made.stderr.strip().splitlines()[-1]
    assert not list((work / "out/compose").rglob("9.png"))


def test_a_file_of_wrong_lines_only_is_wrong_input(
    work: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.jsonl"
    file.write_text("\n".join([line("odd", width=250), line("out", height=0)]))
    made = compose(work, tiny_base_folder, f"layouts={file}", "trainer=cpu")
    assert made.returncode == 2
    assert "and 1 more wrong line" in made.stderr


def test_a_layout_may_name_the_file_of_a_concept(work: Path, tiny_base_folder: Path) -> None:
    """A research pickle beside the layouts acts as the concept imported from it."""
    folder = work / "direct"
    (folder / "loras").mkdir(parents=True)
    shutil.copy(CONCEPTS / "dog.pth", folder / "loras")
    direct = [{**REGIONS[0], "concept": "loras/dog.pth"}, REGIONS[1]]
    missing = [{**REGIONS[0], "concept": "loras/max.pth", "prompt": "<max>"}]
    lines = [line("named"), line("direct", regions=direct), line("missing", regions=missing)]
    (folder / "some.jsonl").write_text("\n".join(lines))
    made = toolkit(
        work,
        "compose",
        "layouts=direct/some.jsonl",
        f"model.path={tiny_base_folder}",
        "sampling.steps=2",
        "figures=false",
    )
    assert made.returncode == 1, made.stderr
    results = work / "out/compose/lora_composer"
    own, imported = (
        np.asarray(Image.open(results / f"{n}/0.png"), int) for n in ("direct", "named")
    )
    assert abs(own - imported).max() <= 1  # an imported concept is kept in half precision
    assert own.std() > 1
    failures = (results / "failures.jsonl").read_text()
    assert "no file loras/max.pth" in failures and "named" not in failures


def second_of(running: subprocess.Popen[bytes]) -> int:
    """The process that the first one has started as the second.

    Not its first child: a library may look for others, by ldconfig, before that.
    """
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    while True:
        assert running.poll() is None
        for child in children.read_text().split():
            with suppress(OSError):  # it has ended
                if b"LOCAL_RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                    return int(child)


@pytest.mark.parametrize("victim", ["first", "second"])
def test_when_a_process_dies_what_is_finished_stays_and_the_same_command_completes_it(
    victim: str, work: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "many.jsonl").write_text("\n".join(line(f"l{i}") for i in range(12)))
    shutil.copytree(work / "out/concepts", tmp_path / "out/concepts")
    results = tmp_path / "out/compose/lora_composer"

    def entries() -> dict[str, dict]:
        return {path.parent.name: json.loads(path.read_text()) for path in results.glob("*/0.json")}

    running = start(tmp_path, tiny_base_folder, "output_dir=out")
    while len({entry["rank"] for entry in entries().values()}) < 2:
        assert running.poll() is None
    os.kill(running.pid if victim == "first" else second_of(running), signal.SIGKILL)
    _, said = running.communicate(timeout=60)  # to the end of what both write
    assert running.returncode in (1, -signal.SIGKILL), said
    left = entries()
    assert 2 <= len(left) < 12
    for entry in left.values():
        assert sha256_of(results / entry["image"]) == entry["sha256"]
    again = compose(tmp_path, tiny_base_folder, *TWO)
    assert again.returncode == 0, again.stderr
    assert f"{len(left)} of 12 pictures are there already" in again.stderr
    made = pictures(tmp_path)
    assert sorted(made) == sorted(f"l{i}/0" for i in range(12))
    assert all(made[f"{name}/0"] == entry["sha256"] for name, entry in left.items())


def test_a_second_process_that_dies_before_the_work_begins_ends_the_command(
    work: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "many.jsonl").write_text("\n".join(line(f"l{i}") for i in range(2)))
    running = start(tmp_path, tiny_base_folder, f"output_dir={work / 'out'}", "method=merge")
    os.kill(second_of(running), signal.SIGKILL)
    _, said = running.communicate(timeout=60)
    assert b"terminated with code -9" in said
    assert running.returncode == -signal.SIGKILL
    assert not list((work / "out/compose/merge").rglob("*.png"))


def test_sigterm_before_the_work_begins_ends_both(
    work: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "many.jsonl").write_text("\n".join(line(f"l{i}") for i in range(2)))
    running = start(tmp_path, tiny_base_folder, f"output_dir={work / 'out'}", "method=merge")
    second_of(running)
    time.sleep(1)  # the first has noted whom it started
    os.kill(running.pid, signal.SIGTERM)
    running.communicate(timeout=120)
    assert running.returncode == -signal.SIGTERM


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, -15), (signal.SIGINT, 130)])
def test_a_signal_to_the_first_process_ends_both_and_loses_nothing(
    sent: signal.Signals, code: int, work: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "many.jsonl").write_text("\n".join(line(f"l{i}") for i in range(40)))
    shutil.copytree(work / "out/concepts", tmp_path / "out/concepts")
    running = start(tmp_path, tiny_base_folder, "output_dir=out")
    results = tmp_path / "out/compose"
    while not list(results.rglob("0.json")):
        assert running.poll() is None
    os.kill(running.pid, sent)
    _, said = running.communicate(timeout=60)  # both have closed what they write to
    assert running.returncode == code, said
    made = list(results.rglob("0.json"))
    assert 1 <= len(made) < 40
    assert all(json.loads(path.read_text())["sha256"] for path in made)
    if sent is signal.SIGINT:
        assert set(pictures(tmp_path)) == {f"{path.parent.name}/0" for path in made}
        assert f"{len(made)} of 40 pictures are there; the same command" in said.decode()
