"""Chromium, and the page of a real server."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from ui_pages import open_page
from ui_server import Server, put_concepts

from toolkit.backbones import load_base


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    put_concepts(folder, load_base(tiny_base_folder, "tiny", guidance_downscale=4))
    running = Server(folder, tiny_base_folder, "model.width=256", "model.height=128")
    yield running
    running.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.fail("these tests need Chromium: apt-get install chromium")
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=alone)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page that nobody has drawn on. Fails on errors in it, and on requests to other servers."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: _check_own(request.url, server.address, wrong))
    open_page(opened, server)
    yield opened
    context.close()
    assert wrong == []


def _check_own(url: str, address: str, wrong: list[str]) -> None:
    if not url.startswith((address, "data:", "blob:")):
        wrong.append(f"it asked {url}")
