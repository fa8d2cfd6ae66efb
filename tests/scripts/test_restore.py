"""A published base can be trained further where there is no work folder."""

from pathlib import Path

import pytest
import torch
from base import publish
from base.text_to_image import new_model
from safetensors.torch import load_file
from transformers import CLIPTokenizer

MINI = Path(__file__).parents[2] / "toolkit" / "assets" / "mini"


def test_a_restored_checkpoint_holds_the_published_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish.restore(tmp_path, MINI)
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
