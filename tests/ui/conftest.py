"""A server on the tiny base, with two concepts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ui_server import Server, put_concepts

from toolkit.backbones import Base, load_base


@pytest.fixture(scope="session")
def ui_base(tiny_base_folder: Path) -> Base:
    return load_base(tiny_base_folder, "tiny", guidance_downscale=4)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path, ui_base: Base
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ui")
    put_concepts(folder, ui_base)
    running = Server(folder, tiny_base_folder)
    yield running
    running.close()
