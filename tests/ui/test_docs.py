"""What docs/ui.md says to an API user runs as it stands there."""

import re
from pathlib import Path

import pytest
from ui_server import Server

DOCS = Path(__file__).parents[2] / "docs" / "ui.md"


def test_the_script_makes_its_pictures(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    exec(script.replace("http://127.0.0.1:8765", server.address.rstrip("/")), {})
    *steps, last = capsys.readouterr().out.splitlines()
    assert "step 9" in steps
    assert last.startswith("done ['/files/compose/fast/by_script/0.png',")
