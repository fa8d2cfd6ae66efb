"""Opening the page of `toolkit ui` in a browser."""

from playwright.sync_api import Page
from ui_server import Server

PATIENCE = 120_000
"""Milliseconds to wait for what a loaded machine may need long for."""


def open_page(page: Page, server: Server) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(server.address)
    page.wait_for_selector("body[data-ready]")
