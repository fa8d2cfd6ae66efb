import copy

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base
from toolkit.backbones.low_rank import (
    LowRank,
    SideBySide,
    changes_applied,
    linear_maps,
    side_by_side,
)
from toolkit.backbones.unet.text import encode_layerwise, tokenise
from toolkit.concept import Concept
from toolkit.errors import InputError
from toolkit.training.attention import CrossAttentionMaps, layerwise_cross_attention
from toolkit.training.ed_lora import (
    export_concept,
    initial_embeddings,
    lora_injected,
    lora_layers,
    set_low_rank_changes,
    token_names,
)

PROMPT = "a photo of <rex1> <rex2> on grass"


def alone(changes: dict[str, LowRank]) -> dict[str, SideBySide]:
    """One concept's changes, everywhere."""
    return {path: side_by_side([pair.to(torch.device("cpu"), torch.float32)], None)
            for path, pair in changes.items()}  # fmt: skip


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def encoded(base: Base, embeddings: Tensor) -> Tensor:
    prompt = tokenise(PROMPT, base.tokenizer, token_names("rex"))
    return encode_layerwise(base.text_encoder, [prompt], embeddings)


def output(base: Base, encodings: Tensor) -> Tensor:
    latents = torch.randn(len(encodings), 4, 8, 8, generator=generator())
    return base.unet(latents, torch.tensor(500), encodings).sample


def trained(base: Base) -> Concept:
    """A concept as after training: LoRAs that change something."""
    with lora_injected(base, 4, generator()):
        for module in (base.unet, base.text_encoder):
            for _, layer in lora_layers(module):
                torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.2)
        embeddings = initial_embeddings(base, "dog", generator())
        return export_concept(base, "rex", "dog", embeddings, {})


def test_every_attention_map_gets_a_lora_and_nothing_else_trains(tiny_base: Base) -> None:
    with lora_injected(tiny_base, 3, generator()):
        assert len(lora_layers(tiny_base.unet)) == 16 * 2 * 4
        assert len(lora_layers(tiny_base.text_encoder)) == 2 * 4
        for module in (tiny_base.unet, tiny_base.text_encoder):
            for name, parameter in module.named_parameters():
                assert parameter.requires_grad == ("lora_" in name), name


def test_the_base_is_as_before_when_the_lora_is_off(tiny_base: Base) -> None:
    names = [name for name, _ in tiny_base.unet.named_modules()]
    weights = copy.deepcopy(tiny_base.unet.state_dict())
    processors = dict(tiny_base.unet.attn_processors)
    with (
        pytest.raises(ZeroDivisionError),
        lora_injected(tiny_base, 4, generator()),
        layerwise_cross_attention(tiny_base),
    ):
        raise ZeroDivisionError
    assert [name for name, _ in tiny_base.unet.named_modules()] == names
    assert tiny_base.unet.attn_processors == processors
    for name, value in tiny_base.unet.state_dict().items():
        assert torch.equal(value, weights[name])


@torch.no_grad()
def test_a_fresh_lora_changes_nothing(tiny_base: Base) -> None:
    embeddings = initial_embeddings(tiny_base, "dog", generator())
    with layerwise_cross_attention(tiny_base):
        plain = output(tiny_base, encoded(tiny_base, embeddings))
        with lora_injected(tiny_base, 4, generator()):
            assert torch.allclose(output(tiny_base, encoded(tiny_base, embeddings)), plain)


@torch.no_grad()
def test_an_exported_concept_acts_as_the_injected_lora_did(tiny_base: Base) -> None:
    concept = trained(tiny_base)
    with layerwise_cross_attention(tiny_base):
        plain = output(tiny_base, encoded(tiny_base, concept.embeddings))
        with lora_injected(tiny_base, 4, generator()):
            set_low_rank_changes(tiny_base.unet, concept.unet)
            set_low_rank_changes(tiny_base.text_encoder, concept.text_encoder)
            encodings = encoded(tiny_base, concept.embeddings)
            expected = output(tiny_base, encodings)
        with (
            changes_applied(linear_maps(tiny_base.text_encoder), alone(concept.text_encoder)),
            changes_applied(linear_maps(tiny_base.unet), alone(concept.unet)),
        ):
            found = encoded(tiny_base, concept.embeddings)
            assert torch.allclose(found, encodings, atol=1e-5)
            assert torch.allclose(output(tiny_base, found), expected, atol=1e-5)
    assert not torch.allclose(expected, plain, atol=1e-2)
    concept.check_fits(tiny_base)


def test_a_lora_that_does_not_fit_is_refused(tiny_base: Base) -> None:
    concept = trained(tiny_base)
    with lora_injected(tiny_base, 2, generator()), pytest.raises(InputError, match="rank=4"):
        set_low_rank_changes(tiny_base.unet, concept.unet)
    strange = {"conv_in": next(iter(concept.unet.values()))}
    with lora_injected(tiny_base, 4, generator()), pytest.raises(InputError, match="conv_in"):
        set_low_rank_changes(tiny_base.unet, strange)


def test_embeddings_start_random_and_at_the_class_word(tiny_base: Base) -> None:
    table = tiny_base.text_encoder.get_input_embeddings().weight
    found = initial_embeddings(tiny_base, "dog", generator())
    assert found.shape == (2, 16, 32)
    ids = tiny_base.tokenizer("dog", add_special_tokens=False).input_ids
    assert len(ids) > 1, "the case of several tokens"
    assert torch.allclose(found[1], table[ids].mean(dim=0).expand(16, 32))
    assert float(found[0].std()) == pytest.approx(float(table.std()), rel=0.4)
    with pytest.raises(InputError, match="class_word"):
        initial_embeddings(tiny_base, " ", generator())


@torch.no_grad()
def test_each_layer_hears_its_own_encoding(tiny_base: Base) -> None:
    heard: dict[int, Tensor] = {}
    encodings = torch.randn(2, 16, 77, 32, generator=generator())
    for index, layer in enumerate(tiny_base.layers):
        keys = tiny_base.unet.get_submodule(f"{layer.cross_attention}.to_k")

        def listen(_module: object, inputs: tuple[Tensor], index: int = index) -> None:
            heard[index] = inputs[0]

        keys.register_forward_pre_hook(listen)
    with layerwise_cross_attention(tiny_base):
        output(tiny_base, encodings)
    for index in range(16):
        assert torch.equal(heard[index], encodings[:, index])


@torch.no_grad()
def test_one_encoding_for_all_layers_is_the_plain_model(tiny_base: Base) -> None:
    encoding = torch.randn(2, 77, 32, generator=generator())
    plain = output(tiny_base, encoding)
    with layerwise_cross_attention(tiny_base):
        assert torch.allclose(output(tiny_base, encoding), plain, atol=1e-6)
        repeated = encoding[:, None].expand(-1, 16, -1, -1)
        assert torch.allclose(output(tiny_base, repeated), plain, atol=1e-6)


def test_recorded_maps_are_probabilities_and_do_not_change_the_output(tiny_base: Base) -> None:
    encodings = torch.randn(2, 16, 77, 32, generator=generator())
    recorder = CrossAttentionMaps(downscale=4)
    with layerwise_cross_attention(tiny_base):
        plain = output(tiny_base, encodings)
    with layerwise_cross_attention(tiny_base, recorder):
        assert torch.equal(output(tiny_base, encodings), plain)
        with torch.no_grad():
            output(tiny_base, encodings)
    assert len(recorder.maps) == sum(layer.downscale == 4 for layer in tiny_base.layers)
    maps = recorder.mean()
    assert maps.shape == (2, 4, 77)
    assert torch.allclose(maps.sum(dim=-1), torch.ones(2, 4))
    recorder.forget()
    assert not recorder.maps
