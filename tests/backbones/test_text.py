"""Prompts with concepts in them, encoded as the base itself would."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base, Part, TokenisedPrompt, load_base
from toolkit.backbones.unet.text import tokenise
from toolkit.errors import InputError

REFERENCE = Path(__file__).parent.parent / "reference" / "model"
WORDS = ("<dog1>", "<dog2>")


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(REFERENCE, "reference", guidance_downscale=4)


def heard(
    base: Base, prompts: Sequence[TokenisedPrompt], embeddings: Tensor | None = None
) -> Tensor:
    given = None if embeddings is None else {Part.TEXT_ENCODER: embeddings}
    return base.encode_prompts(prompts, given).hidden


def test_a_plain_prompt_is_tokenised_as_the_tokenizer_does(base: Base) -> None:
    prompt = "a dog, sitting on GRASS"
    expected = base.tokenizer(prompt, padding="max_length", max_length=77).input_ids
    assert list(tokenise(prompt, base.tokenizer).ids) == expected


def test_each_concept_word_takes_one_place_and_the_rest_stays(base: Base) -> None:
    found = tokenise("a <dog1> <dog2>, sitting", base.tokenizer, WORDS)
    around = tokenise("a , sitting", base.tokenizer).ids
    kept = [i for place, i in enumerate(found.ids) if place not in dict(found.concept_tokens)]
    assert [token for _, token in found.concept_tokens] == [0, 1]
    assert kept == list(around[:75])


def test_words_beyond_the_window_are_named(base: Base) -> None:
    found = tokenise("grass " * 20 + "<dog1>", base.tokenizer, WORDS)
    assert found.lost.endswith("<dog1>")
    assert len(found.ids) == 77
    assert found.concept_tokens == ()


def test_layerwise_encodings_use_each_layers_own_embedding(base: Base) -> None:
    prompt = tokenise("a <dog1> <dog2>, sitting", base.tokenizer, WORDS)
    embeddings = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0))
    found = heard(base, [prompt, prompt], embeddings)
    assert found.shape == (2, 16, 77, 32)
    same = embeddings[:, :1].expand(-1, 16, -1)
    alike = heard(base, [prompt], same)
    assert torch.allclose(alike[0, 0], alike[0, 15])
    assert torch.allclose(alike[0, 0], found[0, 0], atol=1e-6)
    assert not torch.allclose(found[0, 0], found[0, 15], atol=1e-3)


def test_embeddings_equal_to_the_tables_change_nothing(base: Base) -> None:
    table = base.text_encoder.get_input_embeddings().weight
    plain = tokenise("xy", base.tokenizer)
    token = plain.ids[1]
    prompt = tokenise("<dog1>", base.tokenizer, WORDS)
    embeddings = table[token].expand(1, 16, -1)
    found = heard(base, [prompt], embeddings)[0, 3]
    ids = (plain.ids[0], token, plain.ids[-1], *plain.ids[-1:] * 74)
    expected = heard(base, [type(plain)(ids, (), "", 2)])[0, 0]
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_missing_base_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot load the base model"):
        load_base(tmp_path, "nothing")


def test_a_guidance_grid_without_attention_is_refused() -> None:
    with pytest.raises(InputError, match="guidance_downscale=16"):
        load_base(REFERENCE, "reference", guidance_downscale=16)


def test_layers_are_counted_down_then_mid_then_up(base: Base) -> None:
    names = [layer.name.split(".")[0] for layer in base.layers]
    assert names == ["down_blocks"] * 6 + ["mid_block"] + ["up_blocks"] * 9
    assert [layer.downscale for layer in base.layers] == [
        1, 1, 2, 2, 4, 4, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1,
    ]  # fmt: skip
