"""The latents' normalisation is part of the published encoder, and its error is told as it is."""

import math

import pytest
import torch
from base.autoencoder import fold_normalisation, new_autoencoder, psnr, reconstruct
from torch import nn


def test_folding_gives_the_normalised_latents() -> None:
    model, norm = new_autoencoder(), nn.BatchNorm2d(8, affine=False)
    pixels = torch.rand(4, 3, 64, 64) * 2 - 1
    for _ in range(3):
        norm(model.encoder(pixels))
    norm.eval()
    folded = fold_normalisation(model, norm)
    torch.testing.assert_close(
        folded.encoder(pixels), norm(model.encoder(pixels)), rtol=1e-3, atol=1e-3
    )


def test_psnr_is_of_pictures_with_a_range_of_one() -> None:
    target = torch.zeros(1, 3, 8, 8)
    assert psnr(target + 0.2, target) == pytest.approx(-20 * math.log10(0.1), abs=1e-4)


def test_reconstructions_are_pictures_whatever_the_number() -> None:
    model = new_autoencoder().eval()
    pixels = torch.rand(9, 3, 64, 64) * 2 - 1
    drawn = reconstruct(model, pixels)
    assert drawn.shape == pixels.shape and drawn.abs().max() <= 1
    torch.testing.assert_close(drawn[8:], reconstruct(model, pixels[8:]), rtol=1e-4, atol=1e-4)
