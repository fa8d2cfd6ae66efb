"""The text tower is taught which name a side word speaks of, and nothing else."""

from pathlib import Path

import pytest
import torch
from base import binding, checkpoint
from base.binding import SHARE, BindingTargets
from base.scenes import Painter
from base.text_to_image import new_model, token_ids
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

MINI = Path(__file__).parents[2] / "toolkit" / "assets" / "mini"


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(MINI / "tokenizer")


@pytest.fixture(scope="module")
def tower(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    torch.manual_seed(0)
    return new_model(tokenizer).text_encoder.eval()


@torch.no_grad()
def added(
    tokenizer: CLIPTokenizer, tower: CLIPTextModel, caption: str, pair: bool = True
) -> tuple[Tensor, Tensor, list[str]]:
    """What is added to each token's state, its old states, and the tokens."""
    ids = token_ids(tokenizer, [caption])
    old = tower(ids).last_hidden_state
    wanted = BindingTargets(tokenizer, tower, ["dog", "cat"]).states(ids, torch.tensor([pair]))
    return (wanted - old)[0], old[0], tokenizer.convert_ids_to_tokens(ids[0].tolist())


@torch.no_grad()
def side_state(tokenizer: CLIPTokenizer, tower: CLIPTextModel, word: str) -> Tensor:
    return tower(token_ids(tokenizer, [word])).last_hidden_state[0, 1]


@pytest.mark.parametrize(
    ("caption", "second", "side"),
    [
        ("a 3d dog on the left and a cat on the right at night", "cat", "right"),
        ("a dog on the right and a flat cat on the left", "cat", "left"),
        ("a dog to the left of a cat in the snow", "cat", "right"),
        ("a photo of a cat next to a dog", "dog", "right"),
    ],
)
def test_a_side_word_carries_its_name_and_the_second_name_its_side(
    tokenizer: CLIPTokenizer, tower: CLIPTextModel, caption: str, second: str, side: str
) -> None:
    more, old, tokens = added(tokenizer, tower, caption)
    for place, token in enumerate(tokens):
        word = token.removesuffix("</w>")
        if word in ("left", "right"):
            name = max(i for i in range(place) if tokens[i] in ("dog</w>", "cat</w>"))
            wanted = SHARE * old[name]
        elif word == second:
            wanted = SHARE * side_state(tokenizer, tower, side)
        else:
            wanted = torch.zeros_like(old[place])
        torch.testing.assert_close(more[place], wanted, atol=1e-5, rtol=0)


def test_a_caption_of_one_thing_is_left_as_it_was(
    tokenizer: CLIPTokenizer, tower: CLIPTextModel
) -> None:
    more, _, _ = added(tokenizer, tower, "a dog on the left", pair=False)
    assert not more.any()


def test_binding_moves_the_tower_alone_and_towards_what_is_wanted(
    tokenizer: CLIPTokenizer, tower: CLIPTextModel, tmp_path: Path, painter: Painter
) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    networks = {f"text_encoder.{k}": v.clone() for k, v in tower.state_dict().items()}
    networks["unet.some.weight"] = torch.ones(2)
    path = tmp_path / "text_to_image.pt"
    checkpoint.write(
        path, model=networks, average=networks, optimizer={"state": {}}, steps=7, samples=8
    )
    binding.bind(painter, tmp_path, count=30)

    state = checkpoint.read(path, torch.device("cpu"))
    assert state is not None and (state["steps"], state["samples"]) == (7, 8)
    assert state["average"]["unet.some.weight"].tolist() == [1, 1]
    bound = new_model(tokenizer).text_encoder.eval()
    for part in ("model", "average"):
        bound.load_state_dict(binding._of_tower(state[part]))
    ids = token_ids(tokenizer, ["a dog on the left and a cat on the right on a blue background"])
    wanted = BindingTargets(tokenizer, tower, painter.names).states(ids, torch.tensor([True]))
    side = ids[0].tolist().index(tokenizer.convert_tokens_to_ids("left</w>"))

    def distance(model: CLIPTextModel) -> float:
        with torch.no_grad():
            return float((model(ids).last_hidden_state - wanted)[0, side].norm())

    assert distance(bound) < distance(tower)
