import torch
from torch import Tensor

from toolkit.backbones import Base, CrossAttentionMaps, Encodings


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def output(base: Base, encodings: Tensor) -> Tensor:
    latents = torch.randn(len(encodings), 4, 8, 8, generator=generator())
    return base.predict(latents, torch.tensor(500), Encodings(encodings))


@torch.no_grad()
def test_each_layer_hears_its_own_encoding(tiny_base: Base) -> None:
    heard: dict[int, Tensor] = {}
    encodings = torch.randn(2, 16, 77, 32, generator=generator())
    for index, layer in enumerate(tiny_base.layers):
        keys = tiny_base.unet.get_submodule(f"{layer.cross_attention}.to_k")

        def listen(_module: object, inputs: tuple[Tensor], index: int = index) -> None:
            heard[index] = inputs[0]

        keys.register_forward_pre_hook(listen)
    with tiny_base.heard_by_layer():
        output(tiny_base, encodings)
    for index in range(16):
        assert torch.equal(heard[index], encodings[:, index])


@torch.no_grad()
def test_one_encoding_for_all_layers_is_the_plain_model(tiny_base: Base) -> None:
    encoding = torch.randn(2, 77, 32, generator=generator())
    plain = output(tiny_base, encoding)
    with tiny_base.heard_by_layer():
        assert torch.allclose(output(tiny_base, encoding), plain, atol=1e-6)
        repeated = encoding[:, None].expand(-1, 16, -1, -1)
        assert torch.allclose(output(tiny_base, repeated), plain, atol=1e-6)


def test_recorded_maps_are_probabilities_and_do_not_change_the_output(tiny_base: Base) -> None:
    encodings = torch.randn(2, 16, 77, 32, generator=generator())
    recorder = CrossAttentionMaps(downscale=4)
    with tiny_base.heard_by_layer():
        plain = output(tiny_base, encodings)
    with tiny_base.heard_by_layer(recorder):
        assert torch.equal(output(tiny_base, encodings), plain)
        with torch.no_grad():
            output(tiny_base, encodings)
    assert len(recorder.maps) == sum(layer.downscale == 4 for layer in tiny_base.layers)
    maps = recorder.mean()
    assert maps.shape == (2, 4, 77)
    assert torch.allclose(maps.sum(dim=-1), torch.ones(2, 4))
    recorder.forget()
    assert not recorder.maps
