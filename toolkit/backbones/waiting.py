"""Networks that wait in the machine's memory until they are used, and leave a GPU to the rest."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

WAIT_WHILE_COMPOSING = frozenset({"text_encoder", "text_encoder_2", "vae"})
"""Each text encoder is used once for a layout, the autoencoder once for a batch of pictures."""

WAIT_WHILE_TRAINING = frozenset({"vae"})
"""It is used for each image once. Text encoders are used at every step, with gradients."""

_WHERE_THEY_WAIT = torch.device("cpu")


@contextmanager
def brought(networks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Let `networks` be on `device` for the length of the block, and wait again after it."""
    try:
        for network in networks:
            move(network, device)
        yield
    finally:
        for network in networks:
            move(network, _WHERE_THEY_WAIT)


def move(network: nn.Module, device: torch.device) -> None:
    """Put a network's weights there."""
    network.to(device)
