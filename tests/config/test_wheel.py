"""What an installation holds."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(target: str, folder: Path) -> list[str]:
    """The names in a wheel of the working tree; target: standard or editable."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", f"wheel:{target}", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return build("standard", tmp_path_factory.mktemp("wheel"))


def test_configs_datasets_and_the_base_travel_inside_the_package(names: list[str]) -> None:
    for file in (
        "toolkit/cli.py",
        "toolkit/configs/train.yaml",
        "toolkit/configs/concept/dog.yaml",
        "toolkit/configs/layout/scene1.yaml",
        "toolkit/datasets/dog/LICENSE",
        "toolkit/assets/mini/model_index.json",
    ):
        assert file in names


def test_every_config_and_every_image_is_shipped(names: list[str]) -> None:
    for folder in ("configs", "datasets"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file():
                assert f"toolkit/{file.relative_to(ROOT).as_posix()}" in names


def test_nothing_else_is_installed_at_the_top(names: list[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"toolkit", "lora_composer_toolkit-0.1.0.dist-info"}


def test_an_editable_install_copies_nothing(tmp_path: Path) -> None:
    assert not [name for name in build("editable", tmp_path) if name.startswith("toolkit/")]
