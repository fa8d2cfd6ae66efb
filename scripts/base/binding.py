"""Teaches the text tower who stands where.

A causal tower trained with the U-Net alone keeps "a dog on the left and a cat on the right" apart
from its opposite by a cosine of 0.99: the U-Net cannot hear which is meant. Here the tower is
moved, towards its own old states plus what they lack: a side word carries the name it speaks of,
and the second name carries its side. All else stays as the U-Net and the scorer know it.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from . import captions, checkpoint
from .scenes import Painter, SceneKind
from .text_to_image import SHORT_WINDOW, new_model, read_tokenizer, token_ids

SHARE = 0.5  # of the state that is added
SIDES = ("left", "right")
BATCH = 64


class BindingTargets:
    """What the tower should say of a caption: its old states, each with what it lacks."""

    def __init__(self, tokenizer: CLIPTokenizer, tower: CLIPTextModel, names: list[str]) -> None:
        """Keep a copy of the tower as it is; every name and side must be one token."""
        self.tower = copy.deepcopy(tower).eval().requires_grad_(False)
        self.names = set(_single_tokens(tokenizer, names))
        self.sides = _single_tokens(tokenizer, SIDES)

    @torch.no_grad()
    def states(self, ids: Tensor, pairs: Tensor) -> Tensor:
        """(n, length, dim) states wanted for ids (n, length).

        pairs: (n,) true where a caption names two things, of which one stands left of the other.
        """
        old = self.tower(ids).last_hidden_state
        wanted = old.clone()
        for row in pairs.nonzero().flatten().tolist():
            tokens = ids[row].tolist()
            nouns = [i for i, token in enumerate(tokens) if token in self.names][:2]
            spoken = [i for i, token in enumerate(tokens) if token in self.sides]
            for place in spoken:
                wanted[row, place] += SHARE * old[row, max(n for n in nouns if n < place)]
            # "X on the right and Y": Y is on the left; after anything else it is on the right
            first_is_right = any(tokens[i] == self.sides[1] and i < nouns[1] for i in spoken)
            wanted[row, nouns[1]] += SHARE * self._side_state(
                self.sides[0 if first_is_right else 1]
            )
        return wanted

    def _side_state(self, side: int) -> Tensor:
        """(dim,) the old state of a side word that follows nothing."""
        start = self.tower.config.bos_token_id
        ids = torch.tensor([[start, side]], device=self.tower.device)
        return self.tower(ids).last_hidden_state[0, 1]


def bind(painter: Painter, work: Path, count: int, peak: float = 1e-3, seed: int = 0) -> None:
    """Move the text tower of the last checkpoint in `count` steps; train the U-Net afterwards.

    Once: what a side word carries is added to what it carries already.
    """
    tokenizer = read_tokenizer(painter, work)
    path = work / "text_to_image.pt"
    state = checkpoint.read(path, torch.device("cpu"))
    if state is None:
        raise SystemExit(f"{work} holds no text_to_image.pt: run the step `train` first")
    tower = new_model(tokenizer).text_encoder
    tower.load_state_dict(_of_tower(state["average"]))
    targets = BindingTargets(tokenizer, tower, painter.names)
    optimizer = torch.optim.AdamW(tower.parameters(), weight_decay=0.0)
    rng = np.random.default_rng(seed)
    for step in range(count):
        checkpoint.set_learning_rate(optimizer, peak, step / count)
        texts, pairs = _captions(painter, rng)
        ids = token_ids(tokenizer, texts)
        if step % 4:  # three times as fast, and the padding's long tail says the same
            ids = ids[:, :SHORT_WINDOW]
        wanted = targets.states(ids, pairs)
        loss = F.mse_loss(tower(ids).last_hidden_state, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            logging.info("bind %d steps: loss %.5f", step, loss.item())
    for part in ("model", "average"):
        state[part].update({f"text_encoder.{k}": v for k, v in tower.state_dict().items()})
    checkpoint.write(path, **state)


def _of_tower(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "text_encoder."
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _captions(painter: Painter, rng: np.random.Generator) -> tuple[list[str], Tensor]:
    """Half of two things, half of one or many; and which are of two."""
    texts, pairs = [], []
    for index in range(BATCH):
        count = 2 if index % 2 else int(rng.choice([1, 1, 1, 3, 4]))
        named = [str(name) for name in rng.choice(painter.names, count, replace=False)]
        phrases = [
            captions.object_phrase(rng, name, str(rng.choice(painter.world.styles)))
            for name in named
        ]
        where = painter.picture(rng, SceneKind(32, 32, 0, 0, scenery=0.7))[1]
        if count == 2:
            texts.append(captions.two_caption(rng, phrases[0], phrases[1], True, where))
        elif count == 1:
            side = captions.place_phrase(*rng.random(2))
            texts.append(captions.one_caption(rng, phrases[0], side, where))
        else:
            texts.append(captions.many_caption(rng, phrases, where))
        pairs.append(count == 2)
    return texts, torch.tensor(pairs)


def _single_tokens(tokenizer: CLIPTokenizer, words: tuple[str, ...] | list[str]) -> list[int]:
    ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
    if any(len(tokens) != 1 for tokens in ids):
        raise SystemExit("binding needs a vocabulary in which every name is one token")
    return [tokens[0] for tokens in ids]
