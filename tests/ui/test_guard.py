"""Who may ask the server, and what may be sent to it."""

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from ui_server import Server, order, put_concepts

from toolkit.backbones import Base


class Runs:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("open('it-ran', 'w').close()",)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", ""]
)
def test_another_name_for_this_machine_is_refused(server: Server, host: str) -> None:
    assert server.client.get("/api/jobs", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
    ],
)
def test_another_sites_page_is_refused(server: Server, headers: dict[str, str]) -> None:
    before = len(server.client.get("/api/jobs").json())
    assert server.client.post("/api/compose", json=order(), headers=headers).status_code == 403
    assert len(server.client.get("/api/jobs").json()) == before


def test_the_servers_own_page_is_let_in(server: Server) -> None:
    own = {"origin": server.address.rstrip("/"), "sec-fetch-site": "same-origin"}
    assert server.client.get("/api/jobs", headers=own).status_code == 200


def test_a_link_on_another_site_opens_the_page(server: Server) -> None:
    clicked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert server.client.get("/", headers=clicked).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/files/../server.log",
        "/files/%2e%2e/server.log",
        "/files/..%2fserver.log",
        "/files/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/files//etc/passwd",
        "/files/compose/../../secret.png",
        "/files/link.png",
        "/files/ui/jobs.json",
        "/files/concepts/tiny/dog.safetensors",
        "/files/.hidden.png",
        "/files/a%00.png",
        "/../../pyproject.toml",
        "/%2e%2e/app.py",
        "/api/concepts/..%2f..%2fsecret/picture",
        "/api/concepts/dog/picture?model=..",
        "/api/concepts/secret/picture?model=../..",
    ],
)
def test_paths_stay_in_the_output_folder(server: Server, path: str) -> None:
    outputs = server.folder / "outputs"
    for place in (server.folder / "secret.png", outputs / ".hidden.png"):
        Image.new("RGB", (8, 8)).save(place)
    if not (outputs / "link.png").is_symlink():
        (outputs / "link.png").symlink_to(server.folder / "secret.png")
    answer = server.client.get(path)
    assert answer.status_code in (404, 422), answer.text[:200]


def test_too_much_is_not_read(server: Server) -> None:
    told = server.client.post("/api/compose", content=b"[" * 2_000_000)
    assert told.status_code == 413
    streamed = server.client.post("/api/compose", content=iter([b" " * 100_000] * 20))
    assert streamed.status_code in (400, 413)
    deep = server.client.post("/api/compose", content=b'{"layout":' + b"[" * 500_000)
    assert deep.status_code in (400, 422)


def png(width: int, height: int) -> bytes:
    written = io.BytesIO()
    Image.new("1", (width, height)).save(written, "PNG")
    return written.getvalue()


def bomb() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 50_000_000)
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (png(10_000, 10_000), "megapixels"),
        (png(20_000, 20_000), "megapixels"),
        (png(64, 64)[:50], "cannot be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (pickle.dumps(Runs()), "pickle"),
        (bomb(), "zip"),
        (b"", "empty"),
    ],
)
def test_no_image_is_kept_that_is_none(server: Server, content: bytes, said: str) -> None:
    answer = server.client.put("/api/datasets/rex/01.png", content=content)
    assert answer.status_code == 422 and said in answer.json()["error"]
    assert not (server.folder / "outputs" / "ui" / "datasets" / "rex" / "01.png").exists()
    assert str(server.folder) not in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "rex/..%2f..%2fx.png",
        "rex/x.py",
        "rex/.x.png",
        "..%2frex/x.png",
        "re.x/x.png",
        "rex/a/b.png",
    ],
)
def test_images_are_kept_in_their_folder_only(server: Server, path: str) -> None:
    answer = server.client.put(f"/api/datasets/{path}", content=png(8, 8))
    assert answer.status_code in (404, 405, 422)


@pytest.mark.parametrize(
    "content", [pickle.dumps(Runs()), bomb(), b"hello, I am text", png(8, 8), b"\x80\x02junk"]
)
def test_a_lora_that_is_none_is_a_sentence_and_runs_nothing(server: Server, content: bytes) -> None:
    answer = server.client.post("/api/concepts?name=bad&class_word=dog", content=content)
    if answer.status_code == 202:
        job = server.wait(answer.json()["id"])
        assert job["state"] == "failed" and "report it" not in job["error"]
    else:
        assert answer.status_code == 422
    assert not list(server.folder.rglob("it-ran"))
    assert list((server.folder / "outputs" / "ui" / "uploads").iterdir()) == []


def test_ten_thousand_files_are_too_many(server: Server) -> None:
    folder = server.folder / "outputs" / "ui" / "datasets" / "many"
    folder.mkdir(parents=True)
    for number in range(10_000):
        (folder / f"{number}.txt").touch()
    answer = server.client.put("/api/datasets/many/one.png", content=png(8, 8))
    assert answer.status_code == 422 and "more than 1000 images" in answer.json()["error"]


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path, ui_base: Base
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    put_concepts(folder, ui_base)
    running = Server(folder, tiny_base_folder, "host=0.0.0.0")
    yield running
    running.close()


def test_from_other_machines_a_token_is_needed(guarded: Server) -> None:
    address = httpx.URL(guarded.address)
    token = address.params["token"]
    bare = f"http://127.0.0.1:{address.port}"
    assert httpx.get(f"{bare}/api/jobs").status_code == 401
    assert httpx.get(f"{bare}/").status_code == 401
    assert httpx.get(f"{bare}/?token=x").status_code == 401
    assert httpx.get(f"{bare}/api/jobs?token={token}").status_code == 401
    script = {"authorization": f"Bearer {token}"}
    assert httpx.get(f"{bare}/api/jobs", headers=script).status_code == 200
    with httpx.Client(base_url=bare) as browser:
        opened = browser.get(f"/?token={token}", follow_redirects=True)
        assert opened.status_code == 200 and opened.url.query == b""
        assert browser.get("/api/jobs").status_code == 200
