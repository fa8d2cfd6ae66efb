"""All prompts of a layout through the text encoders at once, each under its own concept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from toolkit.backbones.map_change import maps_of
from toolkit.backbones.placed import changes_applied, placed, ready
from toolkit.backbones.prompts import Change, Prompt
from toolkit.backbones.unet.base import Base
from toolkit.backbones.unet.text import TextReader, TokenisedPrompt, embeddings_put, tokenise
from toolkit.errors import InputError, shortened
from toolkit.layout.strength import largest


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the U-Net hears it.

    tokens: the prompt's. positive, negative: (transformers, places, width), one for each
    transformer. pooled: (2, pooled width) of the negative and the positive text; None where the
    U-Net takes none.
    """

    tokens: TokenisedPrompt
    positive: Tensor
    negative: Tensor
    pooled: Tensor | None


@dataclass(frozen=True)
class _Row:
    """One row of the batch: which prompt's, its tokens, and in which version.

    version: of the concept's embeddings: a transformer's; -1 is the mean of all. None: without.
    """

    owner: int
    tokens: TokenisedPrompt
    version: int | None


def encode_prompts(base: Base, prompts: Sequence[Prompt]) -> list[EncodedPrompt]:
    """Both texts of every prompt, in one pass of each text encoder.

    A text with a concept's tokens in it is encoded once for each transformer, with the embeddings
    that the concept has for it (P+), and its pooled vector is that of the mean embeddings; any
    other text is encoded once for all. An empty negative prompt is heard as zeros where the base
    wants that: diffusers' pipeline does so for a negative prompt that is not given.
    Raises InputError when a text is longer than the window.
    """
    tokens = [tokenise_pair(base, prompt) for prompt in prompts]
    hidden: list[list[Tensor]] = [[] for _ in prompts]
    pooled: list[Tensor | None] = [None for _ in prompts]
    for reader in base.readers:
        rows: list[_Row] = []
        for owner, (prompt, (positive, negative)) in enumerate(zip(prompts, tokens, strict=True)):
            layered = prompt.change is not None and positive.concept_tokens
            versions: list[int | None] = [*range(base.transformers)] if layered else [None]
            if layered and reader.pools:
                versions.append(-1)
            rows += [_Row(owner, positive, version) for version in versions]
            rows.append(_Row(owner, negative, None))
        said, of_text = _read(base, reader, prompts, rows)
        for owner in range(len(prompts)):
            *own, last = [number for number, row in enumerate(rows) if row.owner == owner]
            heard = [number for number in own if rows[number].version != -1]
            sides = [said[[last]], said[heard]]
            hidden[owner].append(
                torch.stack([side.expand(base.transformers, -1, -1) for side in sides])
            )
            if of_text is not None:
                pooled[owner] = of_text[[last, own[-1]]]
    return [
        _heard(base, prompt, positive, torch.cat(parts, dim=-1), vectors)
        for prompt, (positive, _), parts, vectors in zip(
            prompts, tokens, hidden, pooled, strict=True
        )
    ]


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


def _heard(
    base: Base, prompt: Prompt, tokens: TokenisedPrompt, sides: Tensor, pooled: Tensor | None
) -> EncodedPrompt:
    negative, positive = sides.unbind()
    if base.zeros_for_no_negative and not prompt.negative:
        negative = torch.zeros_like(negative)
        pooled = None if pooled is None else torch.stack([torch.zeros_like(pooled[1]), pooled[1]])
    return EncodedPrompt(tokens, positive, negative, pooled)


def _read(
    base: Base, reader: TextReader, prompts: Sequence[Prompt], rows: Sequence[_Row]
) -> tuple[Tensor, Tensor | None]:
    """(rows, places, width), and the pooled (rows, width) if any, in the base's type."""
    with base.lock, base.at_hand(reader.part):
        return _read_at_hand(base, reader, prompts, rows)


def _read_at_hand(
    base: Base, reader: TextReader, prompts: Sequence[Prompt], rows: Sequence[_Row]
) -> tuple[Tensor, Tensor | None]:
    by_prompt = [
        (p.change.changes.get(reader.part, {}), p.change.scale * largest(p.strength)) if p.change
        else ({}, 0.0)
        for p in prompts
    ]  # fmt: skip
    acts = torch.zeros(len(rows), 1, len(prompts), device=base.device)
    acts[torch.arange(len(rows)), 0, [row.owner for row in rows]] = 1
    changes = {}
    paths = dict.fromkeys(path for own, _ in by_prompt for path in own)
    if paths:
        maps = maps_of(reader.network)
    for path in paths:
        own = [
            ready(changed[path].scaled(scale), maps[path], reader.network.dtype)
            if path in changed
            else None
            for changed, scale in by_prompt
        ]
        changes[path] = placed(own, None if len(prompts) == 1 else acts, maps[path])
    tokens = [row.tokens for row in rows]
    with (
        changes_applied(maps if changes else {}, changes),
        _own_embeddings(reader, prompts, rows),
    ):
        said, pooled = reader.read(reader.ids(tokens), [own.end for own in tokens])
    return said.to(base.dtype), None if pooled is None else pooled.to(base.dtype)


@contextmanager
def _own_embeddings(
    reader: TextReader, prompts: Sequence[Prompt], rows: Sequence[_Row]
) -> Iterator[None]:
    """Let the token embedding give concepts' own embeddings where their tokens stand."""
    at: list[tuple[int, int]] = []
    values: list[Tensor] = []
    for number, row in enumerate(rows):
        change = prompts[row.owner].change
        if change is None or row.version is None:
            continue
        own = change.token_embeddings[reader.part]
        for place, token in row.tokens.concept_tokens:
            at.append((number, place))
            values.append(own[token].mean(dim=0) if row.version < 0 else own[token, row.version])
    if not at:
        yield
        return
    stacked = torch.stack([value.to(reader.network.dtype) for value in values])
    rows_at, places = zip(*at, strict=True)
    with embeddings_put(reader.network, rows_at, places, stacked):
        yield
