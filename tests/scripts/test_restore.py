"""A published base can be trained further where there is no work folder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from base import publish
from base.art import load_world
from base.text_to_image import new_model
from safetensors.torch import load_file
from transformers import CLIPTokenizer

WORDS = "text_encoder.embeddings.token_embedding.weight"
MINI = Path(__file__).parents[2] / "toolkit" / "assets" / "mini"


def test_a_restored_checkpoint_holds_the_published_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish.restore(load_world(), tmp_path, MINI)
    state = torch.load(tmp_path / "text_to_image.pt", weights_only=True)
    model = new_model(CLIPTokenizer.from_pretrained(tmp_path / "tokenizer"))
    model.unet.load_state_dict(
        {
            key.removeprefix("unet."): value
            for key, value in state["model"].items()
            if key.startswith("unet.")
        }
    )
    published = load_file(next((MINI / "unet").glob("*00001*.safetensors")))
    restored = model.unet.state_dict()
    assert published
    assert all(torch.equal(value.float(), restored[name]) for name, value in published.items())
    assert state["steps"] > 0


def test_restoring_for_a_larger_world_keeps_what_was_known_and_makes_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = load_world()
    larger = replace(world, names=world.names | {"zebra": "zebra_face"})
    publish.restore(larger, tmp_path, MINI)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    words = torch.load(tmp_path / "text_to_image.pt", weights_only=True)["model"][WORDS]
    known = load_file(MINI / "text_encoder" / "model.safetensors")
    (published,) = (value for key, value in known.items() if key.endswith("token_embedding.weight"))
    assert len(tokenizer.tokenize("zebra")) == 1
    assert torch.equal(words[: len(published)], published.float())
    assert len(words) == len(tokenizer) > len(published)
