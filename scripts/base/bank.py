"""Encoded training pictures of one stage, redrawn piece by piece as they are used up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor
from transformers import CLIPTokenizer

from .drawing import CHUNK, Drawers, Drawn, draw_chunk
from .scenes import Painter, SceneKind
from .text_to_image import SHORT_WINDOW, token_ids

EMPTY_PROMPTS = 0.1
SHORTENED = 0.75  # share of small pictures' batches whose captions lose their padding's long tail
RENEWED = {"cpu": 0.25, "cuda": 1.0}  # share of batches that bring a chunk of fresh pictures


def cells(kind: SceneKind) -> int:
    """How many squares of 64 x 64 pixels a canvas holds: what a picture of it costs."""
    return kind.width * kind.height // 4096


@torch.no_grad()
def encode(vae: AutoencoderTiny, pixels: Tensor) -> Tensor:
    """Latents (n, 8, h/8, w/8) in half precision of (n, h, w, 3) bytes."""
    scaled = pixels.to(vae.device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return vae.encode(scaled).latents.half()


class Bank:
    """Latents and token ids of pictures of some kinds, on the device that trains.

    Where `processes` is 0, this process draws them; else others do.
    """

    def __init__(
        self,
        painter: Painter,
        pack: Path,
        vae: AutoencoderTiny,
        tokenizer: CLIPTokenizer,
        kinds: Sequence[tuple[float, SceneKind]],
        processes: int,
        seed: int,
    ) -> None:
        """Draw the first pictures of every kind."""
        self.painter, self.vae, self.tokenizer, self.kinds = painter, vae, tokenizer, list(kinds)
        self.rng = np.random.default_rng([seed, 1])
        weights = np.array([weight for weight, _ in kinds])
        self.weights = weights / weights.sum()
        # others draw the larger kinds as often: their share of the bank is what counts
        drawn = [(1.0, kind) for _, kind in kinds]
        self.drawers = Drawers(painter.world, pack, drawn, processes, seed) if processes else None
        budget = 2**18 if vae.device.type == "cuda" else 4096  # cells of each kind
        self.latents, self.ids = [], []
        for _, kind in kinds:
            room = max(256, min(budget // cells(kind), budget // 4))
            shape = (room, vae.config.latent_channels, kind.height // 8, kind.width // 8)
            self.latents.append(torch.empty(shape, dtype=torch.half, device=vae.device))
            self.ids.append(torch.empty((room, 77), dtype=torch.int32, device=vae.device))
        self.drawn = [0] * len(self.kinds)  # pictures of each kind so far
        self.longest = [0] * len(self.kinds)  # tokens of its longest caption
        self._fill()

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Latents and token ids of `size` pictures of 128 x 128, or as many others as cost that."""
        if self.rng.random() < RENEWED[self.vae.device.type]:
            drawn = self.drawers.take_if_any() if self.drawers else self._draw()
            if drawn:
                self._keep(drawn)
        index = int(self.rng.choice(len(self.kinds), p=self.weights))
        area = cells(self.kinds[index][1])
        count = max(4, min(4 * size // area, 2 * size))
        held = min(self.drawn[index], len(self.latents[index]))
        chosen = torch.from_numpy(self.rng.integers(0, held, count)).to(self.vae.device)
        ids = self.ids[index][chosen].long()
        on_cpu = self.vae.device.type == "cpu"
        if on_cpu and self.longest[index] <= SHORT_WINDOW and self.rng.random() < SHORTENED:
            ids = ids[:, :SHORT_WINDOW]
        return self.latents[index][chosen].float(), ids

    def close(self) -> None:
        """Stop the processes that draw."""
        if self.drawers:
            self.drawers.close()

    def _fill(self) -> None:
        for index in range(len(self.kinds)):
            wanted = len(self.latents[index]) // 16
            while self.drawn[index] < wanted:
                self._keep(self.drawers.take() if self.drawers else self._draw(index))

    def _draw(self, index: int | None = None) -> Drawn:
        if index is None:
            index = int(self.rng.choice(len(self.kinds), p=self.weights))
        return index, *draw_chunk(self.painter, self.kinds[index][1], CHUNK, self.rng)

    def _keep(self, drawn: Drawn) -> None:
        """Encode a chunk into the places of the oldest pictures of its kind."""
        index, pixels, captions = drawn
        captions = ["" if self.rng.random() < EMPTY_PROMPTS else caption for caption in captions]
        ids = token_ids(self.tokenizer, captions)
        length = int((ids != self.tokenizer.pad_token_id).sum(dim=1).max()) + 1
        self.longest[index] = max(self.longest[index], length)
        room = len(self.latents[index])
        places = (torch.arange(len(captions)) + self.drawn[index]) % room
        places = places.to(self.vae.device)
        self.latents[index][places] = encode(self.vae, pixels)
        self.ids[index][places] = ids.int().to(self.vae.device)
        self.drawn[index] += len(captions)
