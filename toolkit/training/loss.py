"""The training loss of ED-LoRA, as pure functions."""

import torch
from torch import Tensor
from torch.nn import functional


def masked_mse(prediction: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Eq. 1: mean squared error of each picture inside its mask.

    prediction, wanted: (n, channels, h, w). mask: (n, 1, h, w) in 0..1, nowhere all 0.
    Returns (n,); with a mask of ones it is the plain mean squared error of each.
    """
    error = (prediction.float() - wanted.float()).square().mean(dim=1, keepdim=True)
    return (error * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))


def min_snr_weight(signal: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """What a squared error counts under Min-SNR-gamma (arXiv 2303.09556, section 3.4).

    The paper weights the error of x0 by min(SNR, gamma), SNR = a / (1 - a). At the same noisy
    latents the error of eps is SNR times that of x0, and the error of v is SNR + 1 times that.
    signal: (n,), a = cumulative alpha. prediction_type: "epsilon", "v_prediction" or "sample".
    Returns (n,).
    """
    snr = signal / (1 - signal)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)
    weight = snr.clamp(max=gamma)
    return weight / (snr + 1) if prediction_type == "v_prediction" else weight


def attention_loss(random_map: Tensor, class_map: Tensor, mask: Tensor) -> Tensor:
    """Mix-of-Show's regulariser: V_class's map is held to the mask, V_rand's stays inside it.

    random_map, class_map: (n, h, w) cross-attention probabilities of the two tokens.
    mask: (n, h, w) in 0..1.
    Both maps are scaled to a peak of 1 first. Returns a scalar in 0..2.
    """
    random_map = random_map / random_map.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    class_map = class_map / class_map.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    held = functional.mse_loss(class_map, mask)
    strayed = (random_map * (1 - mask)).square().mean()
    return held + strayed


def mean_norm(embeddings: Tensor) -> Tensor:
    """Mean length of (tokens, layers, dim) embeddings: a scalar."""
    return torch.linalg.vector_norm(embeddings.float(), dim=-1).mean()
