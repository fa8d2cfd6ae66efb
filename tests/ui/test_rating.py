"""`toolkit rate`: people rate pictures without knowing which method made them."""

import csv
import io
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from ui_server import Server

from toolkit.batch.journal import write_entry

COLOURS = {"balanced": (200, 0, 0), "merge": (0, 0, 200), "fast": (0, 200, 0)}
ANNE, BEN = "a" * 16, "b" * 16


def put_picture(outputs: Path, method: str, layout: str, seed: int, prompt: str = "a dog") -> None:
    """A composed picture, in the method's colour, that says in its file which method it is."""
    told = PngInfo()
    told.add_itxt("toolkit", method)
    folder = outputs / "compose" / method / layout
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 16), COLOURS[method]).save(folder / f"{seed}.png", pnginfo=told)
    region = {"concept": "dog", "prompt": "<dog>", "box": [0, 0, 1, 1]}
    drawn = {"name": layout, "prompt": prompt, "background": None, "regions": [region]}
    inputs = {"layout": drawn, "seed": seed}
    image = f"{layout}/{seed}.png"
    write_entry(folder / f"{seed}.json", {"inputs": inputs, "status": "done", "image": image})


@pytest.fixture
def raters(tmp_path: Path) -> Iterator[Server]:
    outputs = tmp_path / "outputs"
    for method in ("balanced", "merge"):
        put_picture(outputs, method, "one", 0)
        put_picture(outputs, method, "one", 1)
    put_picture(outputs, "balanced", "alone", 0)
    put_picture(outputs, "balanced", "changed", 0)
    put_picture(outputs, "merge", "changed", 0, prompt="a cat")
    running = Server(tmp_path, None, "methods=balanced,merge", command="rate")
    yield running
    running.close()


def ask(server: Server, path: str, rater: str) -> Any:
    return server.client.get(path, params={"rater": rater}).json()


def rate_all(server: Server, rater: str, marks: dict[tuple[int, ...], int]) -> None:
    """Rate every picture by its colour, as someone who sees it."""
    while (asked := ask(server, "/api/rate/next", rater))["case"] is not None:
        place = asked["left"][0]
        path = f"/api/rate/pictures/{asked['case']}/{place}"
        content = server.client.get(path, params={"rater": rater}).content
        assert b"balanced" not in content and b"merge" not in content
        pixel = Image.open(io.BytesIO(content)).getpixel((0, 0))
        assert isinstance(pixel, tuple)
        mark = marks[pixel]
        answer = {"rater": rater, "case": asked["case"], "place": place}
        told = server.client.post("/api/rate", json=answer | {"text": mark, "subjects": 3})
        assert told.status_code == 201


def test_only_what_all_methods_made_of_one_layout_is_shown(raters: Server) -> None:
    assert ask(raters, "/api/rate/next", ANNE)["cases"] == 2


def test_answers_are_kept_at_once_and_summed_up_by_method(raters: Server) -> None:
    rate_all(raters, ANNE, {COLOURS["balanced"]: 5, COLOURS["merge"]: 2})
    rate_all(raters, BEN, {COLOURS["balanced"]: 4, COLOURS["merge"]: 2})
    file = raters.folder / "outputs" / "evaluation" / "ratings.csv"
    rows = list(csv.DictReader(file.open()))
    assert Counter(row["method"] for row in rows) == {"balanced": 4, "merge": 4}
    summary = {one["method"]: one for one in raters.client.get("/api/rate/summary").json()}
    assert summary["balanced"]["text"] == {"mean": 4.5, "low": 4.5, "high": 4.5}
    assert summary["merge"]["text"]["mean"] == 2
    assert summary["merge"]["subjects"]["mean"] == 3


def test_pictures_of_other_programs_are_shown_among_them(raters: Server) -> None:
    raters.kill()
    door = raters.folder / "door" / "one"
    door.mkdir(parents=True)
    Image.new("RGB", (32, 16), "yellow").save(door / "1.png")
    second = Server(
        raters.folder, None, "methods=balanced", f"pictures.door={door.parent}", command="rate"
    )
    try:
        asked = ask(second, "/api/rate/next", ANNE)
        assert (asked["cases"], asked["pictures"]) == (1, 2)  # layout one, seed 1
        colours = {COLOURS["balanced"]: 5, (255, 255, 0): 2}
        rate_all(second, ANNE, colours)
        summary = {one["method"]: one for one in second.client.get("/api/rate/summary").json()}
        assert (summary["door"]["text"]["mean"], summary["balanced"]["text"]["mean"]) == (2, 5)
    finally:
        second.close()


def test_who_comes_back_goes_on_where_they_were(raters: Server) -> None:
    asked = ask(raters, "/api/rate/next", ANNE)
    answer = {"rater": ANNE, "case": asked["case"], "place": asked["left"][0]}
    raters.client.post("/api/rate", json=answer | {"text": 1, "subjects": 1})
    raters.kill()
    second = Server(raters.folder, None, "methods=balanced,merge", command="rate")
    try:
        again = ask(second, "/api/rate/next", ANNE)
        assert (again["case"], again["left"]) == (asked["case"], asked["left"][1:])
    finally:
        second.close()


def test_methods_stand_in_another_order_for_others(raters: Server) -> None:
    orders = set()
    for number in range(16):
        rater = f"{number:016x}"
        path = "/api/rate/pictures/0/0"
        content = raters.client.get(path, params={"rater": rater}).content
        orders.add(Image.open(io.BytesIO(content)).getpixel((0, 0)))
    assert orders == {COLOURS["balanced"], COLOURS["merge"]}


@pytest.mark.parametrize(
    "change",
    [{"text": 6}, {"text": 0}, {"rater": "Anne"}, {"case": 9}, {"place": 5}, {"place": -1}],
)
def test_a_wrong_answer_is_not_kept(raters: Server, change: dict[str, Any]) -> None:
    answer = {"rater": ANNE, "case": 0, "place": 0, "text": 3, "subjects": 3}
    assert raters.client.post("/api/rate", json=answer | change).status_code in (404, 422)
    assert not (raters.folder / "outputs" / "evaluation" / "ratings.csv").exists()


def test_nothing_to_rate_is_told(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "toolkit", "rate", "methods=balanced,fast", "port=0"],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "make them first, by toolkit compose method=balanced and" in ended.stderr
