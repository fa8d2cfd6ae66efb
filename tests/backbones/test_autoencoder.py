"""Large pictures and half precision through Stable Diffusion XL's autoencoder."""

from pathlib import Path

import pytest
import torch
from tiny_families import write_sd2, write_xl

from toolkit.backbones import Base, load_base
from toolkit.backbones.unet import autoencoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xl(tmp_path_factory.mktemp("autoencoder") / "xl")


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(folder, "xl")


@torch.no_grad()
def test_more_pixels_than_fit_at_once_are_decoded_in_pieces(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = torch.randn(3, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    whole = base.decode(latents)
    assert base.vae is not None
    tiled = (base.vae.tiled_decode(latents / 0.13025).sample / 2 + 0.5).clamp(0, 1)
    monkeypatch.setattr(autoencoder, "PIXELS_AT_ONCE", 128 * 192)
    assert torch.allclose(base.decode(latents), whole, atol=1e-5)
    monkeypatch.setattr(autoencoder, "PIXELS_AT_ONCE", 128 * 191)
    assert torch.allclose(base.decode(latents), tiled, atol=1e-5)
    assert not torch.allclose(tiled, whole, atol=1e-3)


@torch.no_grad()
def test_a_picture_of_more_pixels_than_fit_at_once_is_encoded_in_tiles(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.rand(1, 3, 512, 768, generator=torch.Generator().manual_seed(0))
    whole = base.encode(pixels)
    monkeypatch.setattr(base.vae, "tile_sample_min_size", 256)
    monkeypatch.setattr(base.vae, "tile_latent_min_size", 32)
    monkeypatch.setattr(autoencoder, "PIXELS_AT_ONCE", 512 * 767)
    tiled = base.encode(pixels)
    assert tiled.shape == whole.shape and not tiled.equal(whole)
    together = torch.stack([tiled.flatten(), whole.flatten()])
    assert together.corrcoef()[0, 1] > 0.9


@torch.no_grad()
def test_where_half_precision_overflows_it_decodes_in_single(
    folder: Path, base: Base, tmp_path: Path
) -> None:
    half = load_base(folder, "xl", dtype=torch.float16)
    assert half.vae is not None and half.vae.dtype is torch.float32
    assert half.dtype is torch.float16 and half.identity == base.identity
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(half.decode(latents.half()), base.decode(latents), atol=5e-3)
    older = load_base(write_sd2(tmp_path / "sd2"), "sd2", dtype=torch.float16)
    assert older.vae is not None and older.vae.dtype is torch.float16
