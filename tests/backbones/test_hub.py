"""What a hub that does not give a model answers is one line, within seconds."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from toolkit.backbones import load_base, source
from toolkit.errors import InputError
from toolkit.evaluation.judges import load_judge

ANSWERS = {
    "no/such": (401, "RepoNotFound"),
    "wants/login": (403, "GatedRepo"),
    "no/index": (404, "EntryNotFound"),
    "hub/broken": (503, ""),
    "it/moved": (307, ""),
    "it/lies-there": (200, ""),
}


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for the name that is asked for; `is/slow` gets no answer."""

    def do_HEAD(self) -> None:
        name = "/".join(self.path.split("/")[1:3])
        if name == "is/slow":
            time.sleep(3)
        code, error = ANSWERS.get(name, (200, ""))
        self.send_response(code)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests' output stays readable."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def hub(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "hf_hub_url", lambda name, file: f"{address}/{name}/{file}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no/such", "there is no no/such on https://huggingface.co, or it wants a login"),
        ("wants/login", "https://huggingface.co/wants/login wants a login: take its terms"),
        ("no/index", "https://huggingface.co/no/index has no model_index.json"),
        ("hub/broken", "cannot be reached: check the network"),
    ],
)
def test_why_a_hub_does_not_give_a_model(name: str, said: str, hub: None) -> None:
    with pytest.raises(InputError) as caught:
        load_base(name, "x")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert f"{name} is no file or folder here" in str(caught.value)
    assert "give a diffusers folder that is here" in str(caught.value)


def test_what_lies_on_the_hub_is_left_to_the_libraries(hub: None) -> None:
    assert source.refusal("it/lies-there", "model_index.json") is None
    assert source.refusal("it/moved", "model_index.json") is None


def test_a_hub_that_does_not_answer_is_waited_for_in_vain_for_seconds_only(
    hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert source._SECONDS < 10
    monkeypatch.setattr(source, "_SECONDS", 0.2)
    before = time.monotonic()
    assert "cannot be reached" in str(source.refusal("is/slow", "model_index.json"))
    assert time.monotonic() - before < 2


def test_what_no_model_can_be_called_is_not_asked_for() -> None:
    assert "no model on https://huggingface.co can be called so" in str(
        source.refusal("a/b/c", "model_index.json")
    )


def test_a_clip_that_is_not_on_the_hub_is_one_line(hub: None) -> None:
    with pytest.raises(InputError) as caught:
        load_judge("no/such", "x")
    assert str(caught.value).startswith("judge=no/such: no/such is no folder here, and there is no")
    assert "\n" not in str(caught.value)
