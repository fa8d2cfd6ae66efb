"""How a picture looks from near, whatever it shows: what noise, mosaics, melting and specks change.

After NIQE (Mittal et al. 2013): a few statistics of a picture, and how far they lie from those of
pictures that are known to be clean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from toolkit.images.tensors import pixels_of

_SCALES = (1.0, 2.0, 4.0)
"""Deviations of the Gaussians between which the bands lie, in pixels."""

_SPECK = 0.15
"""How far a pixel is from the median around it where a speck is, of 1."""

_FLOOR = 1e-3


def statistics(picture: Image.Image) -> Tensor:
    """(11,) statistics of an RGB picture of at least 16 x 16 pixels.

    For each band of detail (1, 2 and 4 pixels): the logarithm of its strength in brightness, of its
    strength in colour, and of how much its strongest hundredth rises above the rest. Then the
    logarithm of the share of specks, and how well edges keep their direction (0 to 1).
    """
    pixels = pixels_of(picture)
    brightness = pixels.mean(dim=0, keepdim=True)
    colour = pixels - brightness
    found = []
    for bright, tinted in zip(_bands(brightness), _bands(colour), strict=True):
        strength = _root_mean_square(bright)
        found += [
            strength.log(),
            _root_mean_square(tinted).log(),
            ((bright.abs().flatten().quantile(0.99) + _FLOOR) / strength).log(),
        ]
    found += [(speck_share(pixels) + _FLOOR).log(), edge_coherence(brightness[0])]
    return torch.stack(found)


def speck_share(pixels: Tensor) -> Tensor:
    """The share of (3, h, w) pixels in 0..1 that stand out from the median of 7 x 7 around them."""
    patches = functional.unfold(
        functional.pad(pixels[:, None], (3, 3, 3, 3), mode="reflect"), kernel_size=7
    )
    median = patches.median(dim=1).values.unflatten(-1, pixels.shape[1:])
    return ((pixels - median).abs().amax(dim=0) > _SPECK).float().mean()


def edge_coherence(brightness: Tensor) -> Tensor:
    """How well edges of (h, w) keep their direction over 4 pixels, weighted by strength: 0 to 1.

    The structure tensor's ((a - c)^2 + 4 b^2)^1/2 / (a + c).
    """
    dy, dx = torch.gradient(brightness)
    products = torch.stack([dx * dx, dx * dy, dy * dy])
    a, b, c = blurred(products, 2.0)
    strength = a + c
    coherent = ((a - c).square() + 4 * b.square()).sqrt()
    return coherent.sum() / (strength.sum() + _FLOOR)


def blurred(maps: Tensor, deviation: float) -> Tensor:
    """(n, h, w) blurred with a Gaussian; borders are reflected."""
    reach = min(int(3 * deviation + 0.5), min(maps.shape[1:]) - 1)
    offsets = torch.arange(-reach, reach + 1, dtype=maps.dtype)
    line = torch.exp(-offsets.square() / (2 * deviation**2))
    line = line / line.sum()
    padded = functional.pad(maps[:, None], (reach,) * 4, mode="reflect")
    return functional.conv2d(
        functional.conv2d(padded, line[None, None, None]), line[None, None, :, None]
    )[:, 0]


@dataclass(frozen=True)
class Clean:
    """Where the statistics of clean pictures lie.

    means: (groups, 11), one for each group of pictures that show the same. whitening: (11, 11),
    from differences to steps of the usual deviation within a group.
    """

    means: Tensor
    whitening: Tensor

    def distance(self, statistics: Tensor, mean: Tensor) -> float:
        """How many deviations a picture's statistics are from a mean; about 1 for a clean one's."""
        return float(((statistics - mean) @ self.whitening).square().mean().sqrt())


def fit(groups: Sequence[Tensor], shrinkage: float = 0.1) -> Clean:
    """Fit to groups of (pictures, 11) statistics; the deviation within groups is shared by all.

    shrinkage: of the correlations towards none, since groups are small.
    """
    means = torch.stack([group.mean(dim=0) for group in groups])
    within = torch.cat([group - mean for group, mean in zip(groups, means, strict=True)])
    freedom = max(len(within) - len(groups), 1)
    covariance = within.T @ within / freedom
    diagonal = covariance.diagonal().clamp(min=_FLOOR**2).diag()
    covariance = (1 - shrinkage) * covariance + shrinkage * diagonal
    values, vectors = torch.linalg.eigh(covariance.double())
    whitening = vectors * values.clamp(min=_FLOOR**2).rsqrt()
    return Clean(means, whitening.to(covariance.dtype))


def _bands(maps: Tensor) -> list[Tensor]:
    """What (n, h, w) loses from each blur to the next."""
    blurs = [maps, *(blurred(maps, deviation) for deviation in _SCALES)]
    return [fine - coarse for fine, coarse in zip(blurs, blurs[1:], strict=False)]


def _root_mean_square(maps: Tensor) -> Tensor:
    return maps.square().mean().sqrt() + _FLOOR
