"""A server that is killed leaves whole files, and the next one says what was queued."""

from pathlib import Path

from ui_server import Server, put_concepts, until

from toolkit.backbones import Base


def test_what_was_queued_is_said_and_can_be_queued_again(
    tmp_path: Path, tiny_base_folder: Path, ui_base: Base
) -> None:
    put_concepts(tmp_path, ui_base)
    first = Server(tmp_path, tiny_base_folder)
    running = first.make(name="running", method="prompt_only", seeds=500, steps=10)
    waiting = first.make(name="waiting")
    until(lambda: first.job(running["id"])["pictures"])
    first.kill()
    second = Server(tmp_path, tiny_base_folder)
    try:
        lost = second.job(running["id"])
        assert lost["state"] == "lost" and "while it was made" in lost["error"]
        assert second.job(waiting["id"])["state"] == "lost"
        again = second.client.post(f"/api/jobs/{waiting['id']}/again").json()
        assert second.wait(again["id"])["state"] == "done"
    finally:
        second.close()
    for entry in (tmp_path / "outputs" / "compose").rglob("[0-9]*.json"):
        assert entry.with_suffix(".png").is_file()
