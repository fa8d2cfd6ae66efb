"""All prompts of a layout through the text encoder at once, each under its own concept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel

from toolkit.backbones.low_rank import changes_applied, linear_maps, side_by_side
from toolkit.backbones.prompts import Change, Prompt
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.text import TokenisedPrompt, tokenise
from toolkit.errors import InputError, shortened


@dataclass(frozen=True)
class EncodedPrompt:
    """tokens: the prompt's. positive, negative: (layers, places, dim), one for each site."""

    tokens: TokenisedPrompt
    positive: Tensor
    negative: Tensor


@dataclass(frozen=True)
class _Row:
    """One row of the batch: which prompt's, its tokens, and for which site; None: for all sites."""

    owner: int
    tokens: TokenisedPrompt
    site: int | None


def encode_prompts(base: Base, prompts: Sequence[Prompt]) -> list[EncodedPrompt]:
    """Both texts of every prompt, in one pass of the text encoder.

    A text with a concept's tokens in it is encoded once for each site, with the embeddings that the
    concept has for that site (P+); any other text once for all of them.
    Raises InputError when a text is longer than the window.
    """
    sites = len(base.layers)
    tokens = [tokenise_pair(base, prompt) for prompt in prompts]
    rows: list[_Row] = []
    for owner, (prompt, (positive, negative)) in enumerate(zip(prompts, tokens, strict=True)):
        layered = prompt.change is not None and positive.concept_tokens
        rows += [_Row(owner, positive, site) for site in (range(sites) if layered else [None])]
        rows.append(_Row(owner, negative, None))
    encoded = _encode(base, prompts, rows)
    found, start = [], 0
    for owner, (positive, _) in enumerate(tokens):
        texts = encoded[start : start + sum(row.owner == owner for row in rows)]
        start += len(texts)
        found.append(
            EncodedPrompt(
                positive,
                texts[:-1].expand(sites, -1, -1),
                texts[-1:].expand(sites, -1, -1),
            )
        )
    return found


def tokenise_pair(base: Base, prompt: Prompt) -> tuple[TokenisedPrompt, TokenisedPrompt]:
    """Both texts of a prompt; InputError when one does not fit into the window."""
    names = prompt.change.token_names if prompt.change else ()
    positive = tokenise(prompt.text, base.tokenizer, names)
    negative = tokenise(prompt.negative, base.tokenizer)
    for tokens, text in ((positive, prompt.text), (negative, prompt.negative)):
        if tokens.lost:
            raise InputError(
                f"prompt {shortened(text)!r} is longer than the text encoder's window of "
                f"{base.tokenizer.model_max_length} tokens; lost: {shortened(tokens.lost)!r}"
            )
    return positive, negative


def places_of(change: Change, tokens: TokenisedPrompt, base: Base) -> tuple[int, ...]:
    """Where a prompt calls a concept: the places of its tokens, or of its trigger words.

    Raises InputError when it has no tokens and its trigger words do not stand in the prompt.
    """
    if change.token_names:
        return tuple(place for place, _ in tokens.concept_tokens)
    found = places_of_words(change.trigger_words, tokens, base)
    if not found:
        raise InputError(f"concept {change.name}: its trigger words do not stand in the prompt")
    return found[0]


def places_of_words(words: str, tokens: TokenisedPrompt, base: Base) -> list[tuple[int, ...]]:
    """Each place of a prompt that holds `words`: the places of their tokens."""
    wanted = base.tokenizer(words, add_special_tokens=False).input_ids
    return [
        tuple(range(start, start + len(wanted)))
        for start in range(1, len(tokens.ids) - len(wanted))
        if list(tokens.ids[start : start + len(wanted)]) == wanted
    ]


def _encode(base: Base, prompts: Sequence[Prompt], rows: Sequence[_Row]) -> Tensor:
    """(rows, places, dim) in the base's type."""
    text_encoder: Any = base.text_encoder
    ids = torch.tensor([row.tokens.ids for row in rows], device=base.device)
    by_prompt = [(p.change.text_encoder, p.change.scale * p.strength) if p.change else ({}, 0.0)
                 for p in prompts]  # fmt: skip
    acts = torch.zeros(len(rows), 1, len(prompts), device=base.device)
    acts[torch.arange(len(rows)), 0, [row.owner for row in rows]] = 1
    place = (base.device, text_encoder.dtype)
    changes = {}
    for path in dict.fromkeys(path for pairs, _ in by_prompt for path in pairs):
        pairs = [
            changed[path].scaled(scale).to(*place) if path in changed else None
            for changed, scale in by_prompt
        ]
        changes[path] = side_by_side(pairs, None if len(prompts) == 1 else acts)
    with (
        base.lock,
        changes_applied(linear_maps(text_encoder), changes),
        _own_embeddings(text_encoder, prompts, rows),
    ):
        encoded: Tensor = text_encoder(input_ids=ids).last_hidden_state
    return encoded.to(base.dtype)


@contextmanager
def _own_embeddings(
    text_encoder: CLIPTextModel, prompts: Sequence[Prompt], rows: Sequence[_Row]
) -> Iterator[None]:
    """Let the token embedding give concepts' own embeddings where their tokens stand."""
    at: list[tuple[int, int]] = []
    values: list[Tensor] = []
    for number, row in enumerate(rows):
        change = prompts[row.owner].change
        if change is None or row.site is None:
            continue
        for place, token in row.tokens.concept_tokens:
            at.append((number, place))
            values.append(change.embeddings[token, row.site])
    if not at:
        yield
        return

    def put(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        index = torch.tensor(at, device=output.device)
        rows = torch.stack([value.to(output) for value in values])
        return output.index_put((index[:, 0], index[:, 1]), rows)

    handle = text_encoder.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()
