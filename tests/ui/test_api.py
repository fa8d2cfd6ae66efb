"""The HTTP API of `toolkit ui`, asked as a script asks it."""

import io
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ui_server import CONCEPTS, Server, order, until

from toolkit.batch.there import composed_already
from toolkit.config import read_compose
from toolkit.layout.files import read_layouts
from toolkit.layout.mapping import layout_to_mapping


def test_a_layout_is_made_and_told_step_by_step(server: Server) -> None:
    job = server.make(name="made", seeds=2, preview_every=2)
    told = list(server.events(job["id"]))
    assert told.count("step") >= 2 and told[-1] == "job"
    job = server.job(job["id"])
    assert (job["state"], job["error"]) == ("done", None)
    for picture in job["pictures"]:
        answer = server.client.get(picture["image"])
        assert Image.open(io.BytesIO(answer.content)).size == (128, 64)


def test_a_larger_picture_is_watched_from_its_first_step_to_its_last(server: Server) -> None:
    job = server.make(name="larger", method="fast", steps=3, upscale=2, preview_every=1)
    shown = [
        json.loads(line.removeprefix("data: "))["value"]
        for line in streamed(server, job["id"])
        if '"event": "step"' in line
    ]
    assert [(step["step"], step["steps"]) for step in shown] == [(step, 4) for step in range(4)]
    (picture,) = server.job(job["id"])["pictures"]
    answer = server.client.get(picture["image"])
    assert Image.open(io.BytesIO(answer.content)).size == (256, 128)
    listed = server.client.get("/api/results", params={"layout": "larger"}).json()["pictures"]
    sizes = {one["method"]: (one["width"], one["height"]) for one in listed}
    assert sizes == {"fast": (128, 64), "fast+upscale=2": (256, 128)}


def test_previews_show_colours_and_each_region(server: Server) -> None:
    job = server.make(name="shown", method="balanced", preview_every=1)
    shown = [
        json.loads(line.removeprefix("data: "))["value"]
        for line in streamed(server, job["id"])
        if '"event": "step"' in line
    ]
    assert [step["step"] for step in shown] == [0, 1, 2, 3]
    assert all(step["preview"].startswith("data:image/png") for step in shown)
    refined = [step for step in shown if step["losses"]]
    assert refined and all(len(step["maps"]) == 2 and "total" in step["losses"] for step in refined)


def streamed(server: Server, job: str) -> list[str]:
    with server.client.stream("GET", f"/api/jobs/{job}/events") as stream:
        return [line for line in stream.iter_lines() if line.startswith("data: ")]


def test_the_command_finds_the_pages_pictures_made_already(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = order(name="same", seeds=[3])
    command = server.client.post("/api/layouts/check", json=asked).json()["command"]
    server.wait(server.make(name="same", seeds=[3])["id"])
    monkeypatch.chdir(server.folder)
    assert command.startswith("toolkit compose layout=outputs/layouts/same.yaml ")
    assert composed_already(read_compose(command.replace("'", "").split()[2:])) == 0


def test_a_layout_comes_back_from_its_picture_and_its_yaml(server: Server) -> None:
    job = server.wait(server.make(name="back")["id"])
    png = server.client.get(job["pictures"][0]["image"]).content
    saved = server.folder / "outputs" / "layouts" / "back.yaml"
    (layout,) = read_layouts([saved])
    for content in (png, saved.read_bytes(), json.dumps(layout_to_mapping(layout)).encode()):
        read = server.client.post("/api/layouts/read", content=content).json()
        assert read == {"layouts": [layout_to_mapping(layout)], "left_out": []}


def test_results_are_listed_newest_first_and_filtered(server: Server) -> None:
    server.wait(server.make(name="older")["id"])
    server.wait(server.make(name="newer", method="prompt_only")["id"])
    listed = server.client.get("/api/results").json()["pictures"]
    assert [one["layout"] for one in listed][:2] == ["newer", "older"]
    filtered = server.client.get("/api/results", params={"layout": "older"}).json()
    assert filtered["count"] == 1 and filtered["pictures"][0]["method"] == "fast"
    entry = server.client.get(listed[0]["entry"]).json()
    assert entry["inputs"]["layout"]["name"] == "newer"


def test_a_fusion_that_a_method_needs_is_made_with_the_picture(server: Server) -> None:
    job = server.wait(server.make(name="fused", method="mix_of_show")["id"])
    assert (job["state"], job["error"]) == ("done", None)
    assert (server.folder / "outputs/concepts/tiny/dog_cat.safetensors").is_file()


def test_warnings_are_those_of_the_command(server: Server) -> None:
    def said(**layout: Any) -> dict[str, Any]:
        asked = order(layout=layout)
        until(lambda: server.client.post("/api/layouts/check", json=asked).json()["complete"])
        return dict(server.client.post("/api/layouts/check", json=asked).json())

    regions = order()["layout"]["regions"]
    near = [regions[0], regions[1] | {"box": [0.25, 0.0, 1.0, 1.0]}]
    assert said()["remarks"] == []
    assert "less than a cell apart" in said(regions=near)["remarks"][0]
    assert (
        "not trained yet: fox"
        in said(regions=[regions[0] | {"concept": "fox", "prompt": "<fox>"}])["problem"]
    )
    assert (
        "holds no whole cell"
        in said(regions=[regions[0] | {"box": [0.0, 0.0, 0.01, 0.01]}])["problem"]
    )
    long = said(regions=[regions[0] | {"prompt": "<dog> " + "very " * 90 + "green"}])
    assert "; lost: '" in long["problem"]
    wrong = said(regions=[regions[0] | {"box": [0.5, 0.0, 0.2, 1.0]}])
    assert wrong["path"] == "regions[0].box"


@pytest.mark.parametrize(
    "change",
    [
        {"layout": {"regions": [{"concept": "/x.pth", "prompt": "<x>", "box": [0, 0, 1, 1]}]}},
        {"layout": {"background": "../../dog", "prompt": "<dog>"}},
        {"layout": {"name": "../out"}},
        {"layout": {"conditions": [{"type": "controlnet", "model": "/", "image": "/etc/passwd"}]}},
        {"layout": {"width": 100}},
        {"layout": {"regions": [{"concept": "dog", "prompt": "<dog>", "mask": "/etc/passwd"}]}},
        {"method": "../model/mini"},
        {"method": "fats"},
        {"switches": {"name": "../../x"}},
        {"switches": {"x output_dir": "/tmp"}},
        {"method": "paint_by_example", "switches": {"painter": "/tmp"}},
        {"seeds": 0},
        {"seeds": [-1]},
        {"steps": 0},
        {"layuot": 1},
    ],
)  # fmt: skip
def test_a_wrong_order_is_a_sentence_and_queues_nothing(
    server: Server, change: dict[str, Any]
) -> None:
    before = len(server.client.get("/api/jobs").json())
    answer = server.client.post("/api/compose", json=order(**change))
    assert answer.status_code == 422 and len(answer.json()["error"]) > 10
    assert len(server.client.get("/api/jobs").json()) == before


def test_fifty_jobs_wait_and_half_of_them_are_cancelled(server: Server) -> None:
    first = server.make(name="long", method="balanced", seeds=20, steps=200, layout={"width": 256})
    until(lambda: server.job(first["id"])["state"] == "running")
    jobs = [server.make(name=f"many{number}", steps=1) for number in range(50)]
    for job in jobs[::2]:
        assert server.client.delete(f"/api/jobs/{job['id']}").json()["state"] == "stopped"
    slowest = max(_seconds(server, path) for path in ("jobs", "concepts", "results", "methods"))
    assert slowest < 30  # it is answered while a picture is made, not after it
    assert server.job(first["id"])["state"] == "running"
    server.client.delete(f"/api/jobs/{first['id']}")
    assert server.wait(first["id"])["state"] == "stopped"
    states = [server.wait(job["id"])["state"] for job in jobs]
    assert states == ["stopped", "done"] * 25
    made = {
        path.parent.name for path in (server.folder / "outputs").glob("compose/fast/many*/0.png")
    }
    assert made == {f"many{number}" for number in range(1, 50, 2)}


def _seconds(server: Server, path: str) -> float:
    before = time.monotonic()
    assert server.client.get(f"/api/{path}").status_code == 200
    return time.monotonic() - before


def test_a_lora_is_imported_from_its_bytes(server: Server) -> None:
    content = (CONCEPTS / "fox.pth").read_bytes()
    asked = {"name": "reynard", "class_word": "fox"}
    job = server.client.post("/api/concepts", params=asked, content=content).json()
    assert server.wait(job["id"])["error"] is None
    shelf = {one["name"]: one for one in server.client.get("/api/concepts").json()}
    assert shelf["reynard"]["fits"] and shelf["reynard"]["class_word"] == "fox"
    again = server.client.post("/api/concepts", params=asked, content=content)
    assert again.status_code == 422 and "is there already" in again.json()["error"]
    assert list((server.folder / "outputs" / "ui" / "uploads").iterdir()) == []


def test_methods_say_what_they_do_and_what_can_be_set(server: Server) -> None:
    methods = {one["name"]: one for one in server.client.get("/api/methods").json()}
    assert "published" not in methods and methods["lora_composer"]["says"]
    assert "cones2" in methods and "paint_by_example" not in methods, "its checkpoint is a file"
    switches = {one["name"]: one for one in methods["lora_composer"]["switches"]}
    assert switches["fill_loss"]["kind"] == "yes_no" and switches["fill_loss"]["meaning"]


def test_the_api_describes_itself_without_another_server(server: Server) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    page = server.client.get("/docs").text
    assert "/api/compose" in paths
    assert all(path in page for path in paths)
    assert "http" not in page.replace("HTTP", "")


def test_a_dead_worker_is_followed_by_another(server: Server) -> None:
    worker = _worker_of(server)
    job = server.make(name="killed", method="balanced", steps=100, layout={"width": 256})
    until(lambda: "step" in _names(server, job["id"]))
    os.kill(worker, signal.SIGKILL)
    done = server.wait(job["id"])
    assert done["state"] == "done"
    assert _worker_of(server) != worker


def _names(server: Server, job: str) -> list[str]:
    names = []
    for name in server.events(job):
        names.append(name)
        if name == "step":
            break
    return names


def _worker_of(server: Server) -> int:
    children = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    found = [int(one) for path in children for one in path.read_text().split()]
    (worker,) = [one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
    return worker


def test_an_unknown_job_is_told(server: Server) -> None:
    for answer in (
        server.client.get("/api/jobs/x"),
        server.client.delete("/api/jobs/x"),
        server.client.get("/api/jobs/x/events"),
    ):
        assert answer.status_code == 404 and answer.json()["error"] == "there is no such job"
