import copy

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base, Encodings, Part
from toolkit.backbones.injection import injected_layers
from toolkit.backbones.low_rank import LowRank, SideBySide, linear_maps, side_by_side
from toolkit.backbones.placed import changes_applied
from toolkit.concept import Concept
from toolkit.errors import InputError
from toolkit.training.ed_lora import export_concept, initial_embeddings, token_names

PROMPT = "a photo of <rex1> <rex2> on grass"


def alone(changes: dict[str, LowRank]) -> dict[str, SideBySide]:
    """One concept's changes, everywhere."""
    return {path: side_by_side([pair.to(torch.device("cpu"), torch.float32)], None)
            for path, pair in changes.items()}  # fmt: skip


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def encoded(base: Base, embeddings: dict[Part, Tensor]) -> Encodings:
    return base.encode_prompts([base.tokenise(PROMPT, token_names("rex"))], embeddings)


def output(base: Base, encodings: Encodings) -> Tensor:
    latents = torch.randn(len(encodings.hidden), 4, 8, 8, generator=generator())
    return base.predict(latents, torch.tensor(500), encodings)


def trained(base: Base) -> Concept:
    """A concept as after training: LoRAs that change something."""
    with base.lora_injected(4, generator()):
        for module in (base.unet, base.text_encoder):
            for _, layer in injected_layers(module):
                torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.2)
        embeddings = initial_embeddings(base, "dog", generator())
        return export_concept(base, "rex", "dog", embeddings, {})


def test_every_attention_map_gets_a_lora_and_nothing_else_trains(tiny_base: Base) -> None:
    with tiny_base.lora_injected(3, generator()):
        assert len(injected_layers(tiny_base.unet)) == 16 * 2 * 4
        assert len(injected_layers(tiny_base.text_encoder)) == 2 * 4
        for module in (tiny_base.unet, tiny_base.text_encoder):
            for name, parameter in module.named_parameters():
                assert parameter.requires_grad == ("lora_" in name), name


def test_the_base_is_as_before_when_the_lora_is_off(tiny_base: Base) -> None:
    names = [name for name, _ in tiny_base.unet.named_modules()]
    weights = copy.deepcopy(tiny_base.unet.state_dict())
    processors = dict(tiny_base.unet.attn_processors)
    with (
        pytest.raises(ZeroDivisionError),
        tiny_base.lora_injected(4, generator()),
        tiny_base.heard_by_layer(),
    ):
        raise ZeroDivisionError
    assert [name for name, _ in tiny_base.unet.named_modules()] == names
    assert tiny_base.unet.attn_processors == processors
    for name, value in tiny_base.unet.state_dict().items():
        assert torch.equal(value, weights[name])


@torch.no_grad()
def test_a_fresh_lora_changes_nothing(tiny_base: Base) -> None:
    embeddings = initial_embeddings(tiny_base, "dog", generator())
    with tiny_base.heard_by_layer():
        plain = output(tiny_base, encoded(tiny_base, embeddings))
        with tiny_base.lora_injected(4, generator()):
            assert torch.allclose(output(tiny_base, encoded(tiny_base, embeddings)), plain)


@torch.no_grad()
def test_an_exported_concept_acts_as_the_injected_lora_did(tiny_base: Base) -> None:
    concept = trained(tiny_base)
    with tiny_base.heard_by_layer():
        plain = output(tiny_base, encoded(tiny_base, concept.token_embeddings))
        with tiny_base.lora_injected(4, generator()):
            tiny_base.start_from(concept.changes)
            encodings = encoded(tiny_base, concept.token_embeddings)
            expected = output(tiny_base, encodings)
        with (
            changes_applied(linear_maps(tiny_base.text_encoder), alone(concept.text_encoder)),
            changes_applied(linear_maps(tiny_base.unet), alone(concept.unet)),
        ):
            found = encoded(tiny_base, concept.token_embeddings)
            assert torch.allclose(found.hidden, encodings.hidden, atol=1e-5)
            assert torch.allclose(output(tiny_base, found), expected, atol=1e-5)
    assert not torch.allclose(expected, plain, atol=1e-2)
    concept.check_fits(tiny_base)


def test_a_lora_that_does_not_fit_is_refused(tiny_base: Base) -> None:
    concept = trained(tiny_base)
    with tiny_base.lora_injected(2, generator()), pytest.raises(InputError, match="rank=4"):
        tiny_base.start_from(concept.changes)
    strange = {"conv_in": next(iter(concept.unet.values()))}
    with tiny_base.lora_injected(4, generator()), pytest.raises(InputError, match="conv_in"):
        tiny_base.start_from({Part.UNET: strange})


def test_embeddings_start_random_and_at_the_class_word(tiny_base: Base) -> None:
    table = tiny_base.text_encoder.get_input_embeddings().weight
    found = initial_embeddings(tiny_base, "dog", generator())[Part.TEXT_ENCODER]
    assert found.shape == (2, 16, 32)
    ids = tiny_base.tokenizer("dog", add_special_tokens=False).input_ids
    assert len(ids) > 1, "the case of several tokens"
    assert torch.allclose(found[1], table[ids].mean(dim=0).expand(16, 32))
    assert float(found[0].std()) == pytest.approx(float(table.std()), rel=0.4)
    with pytest.raises(InputError, match="class_word"):
        initial_embeddings(tiny_base, " ", generator())
