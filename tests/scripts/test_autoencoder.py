"""The latents' normalisation is part of the published encoder."""

import torch
from base.autoencoder import fold_normalisation, new_autoencoder
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
