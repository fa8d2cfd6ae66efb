"""Full disks, unwritable folders, W&B without a server: nothing is lost or half there."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from toolkit.files import sha256_of

CONCEPTS = Path(__file__).parent.parent / "reference" / "concepts"
SCENE = """{name: scene, prompt: a dog, width: 256, height: 192, regions: [
  {concept: dog, prompt: <dog>, box: [0.05, 0.1, 0.45, 0.9]}]}"""
NO_SERVER = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}


@pytest.fixture
def work(tiny_base_folder: Path, tmp_path: Path) -> Path:
    """A layout and an imported concept."""
    (tmp_path / "scene.yaml").write_text(SCENE)
    made = toolkit(tmp_path, tiny_base_folder, "import", str(CONCEPTS / "dog.pth"), "concept=dog")
    assert made.returncode == 0, made.stderr
    return tmp_path


def toolkit(
    folder: Path,
    base: Path,
    *arguments: str,
    largest_file: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """largest_file: in bytes; the operating system refuses to let one grow beyond it."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [sys.executable, "-m", "toolkit", *arguments, f"model.path={base}"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=limit,
    )


COMPOSE = ("compose", "layout=scene.yaml", "sampling.steps=2", "seeds=2")


def check_whole(results: Path) -> None:
    """Both pictures are there, readable and as the journal says; nothing else is left over."""
    for seed in (0, 1):
        entry = json.loads((results / f"scene/{seed}.json").read_text())
        picture = results / entry["image"]
        assert sha256_of(picture) == entry["sha256"]
        Image.open(picture).load()
    assert not list(results.rglob("*.partial*"))


def test_a_disk_that_takes_no_more_ends_the_run_clearly_and_a_rerun_completes(
    work: Path, tiny_base_folder: Path
) -> None:
    results = work / "outputs/compose/lora_composer"
    full = toolkit(work, tiny_base_folder, *COMPOSE, largest_file=4000)
    assert full.returncode == 1
    assert "cannot write" in full.stderr.splitlines()[-1] and "Traceback" not in full.stderr
    left = [path.name for path in results.rglob("*") if path.is_file()]
    assert not [name for name in left if name.endswith((".json", ".png"))], left
    again = toolkit(work, tiny_base_folder, *COMPOSE)
    assert again.returncode == 0, again.stderr
    check_whole(results)


def test_an_output_folder_that_cannot_be_made_is_told_in_one_line(
    work: Path, tiny_base_folder: Path
) -> None:
    (work / "outputs/compose").write_text("a file where a folder should be")
    made = toolkit(work, tiny_base_folder, *COMPOSE)
    assert made.returncode == 2
    assert made.stderr == (
        "toolkit: output_dir: cannot write to outputs/compose: it is no folder\n"
    )
    (work / "outputs/compose").unlink()
    assert toolkit(work, tiny_base_folder, *COMPOSE).returncode == 0
    check_whole(work / "outputs/compose/lora_composer")


def test_wandb_holds_a_table_that_its_own_reader_reads(work: Path, tiny_base_folder: Path) -> None:
    """A server that does not answer leaves an offline run, and the batch as it should be."""
    asked = (*COMPOSE, "logger=wandb", "logger.max_images=1")
    environment = NO_SERVER | {"WANDB_DATA_DIR": str(work / "data")}
    made = toolkit(work, tiny_base_folder, *asked, environment=environment)
    assert made.returncode == 0, made.stderr
    assert "logs offline" in made.stderr
    results = work / "outputs/compose/lora_composer"
    (run,) = results.glob("wandb/offline-run-*/run-*.wandb")
    assert made.stderr.count(f"wandb sync {run.parent.relative_to(work)}\n") == 1
    wandb = shutil.which("wandb", path=str(Path(sys.executable).parent))
    assert wandb is not None
    lines = subprocess.run(
        [wandb, "leet", "inspect", "--json", str(run)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    records = {record["type"]: record for record in map(json.loads, lines)}
    assert records["run"]["run"]["job_type"] == "compose"
    assert records["history"]["history"]["item"]["compositions.nrows"] == 1  # max_images
    kept = records["artifact"]["artifact"]["manifest"]["contents"]
    files = {file["path"]: Path(file["local_path"]) for file in kept}
    table = json.loads(files["compositions.table.json"].read_text())
    assert table["columns"][:5] == ["layout", "seed", "image", "attention", "losses"]
    (row,) = table["data"]
    entry = json.loads((results / "scene/0.json").read_text())
    assert row[:2] == ["scene", 0]
    assert row[5:] == [entry["losses"][0], entry["losses"][-1], len(entry["losses"])]
    for column, suffix in ((2, ".png"), (3, "_attention.png"), (4, "_losses.png")):
        sent = files[row[column]["path"]].read_bytes()
        assert sent == (results / f"scene/0{suffix}").read_bytes()
