"""Prompts to text encodings, with a concept's own embeddings at its tokens' places."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer


@dataclass(frozen=True)
class TokenisedPrompt:
    """A prompt as the text encoder reads it.

    ids: one token id for each place of the window (77 for SD 1.x), padded.
    concept_tokens: for each place that holds a concept's token: (place, which of its tokens).
    lost: the words that did not fit into the window.
    """

    ids: tuple[int, ...]
    concept_tokens: tuple[tuple[int, int], ...]
    lost: str


def tokenise(
    prompt: str, tokenizer: CLIPTokenizer, concept_words: Sequence[str] = ()
) -> TokenisedPrompt:
    """Tokenise `prompt`; each of `concept_words` in it takes one place, whatever the vocabulary.

    The tokenizer is left as it is: a concept's words are cut out of the text first, so neither the
    vocabulary nor the embedding table has to grow. Their ids are the unknown token's; their
    embeddings come from the concept (`token_embeddings_replaced`).
    """
    window = int(tokenizer.model_max_length)
    ids: list[int] = [tokenizer.bos_token_id]
    pieces: list[str] = [""]
    concept_tokens: list[tuple[int, int]] = []
    for part in _split(prompt, concept_words):
        if part in concept_words:
            concept_tokens.append((len(ids), concept_words.index(part)))
            ids.append(tokenizer.unk_token_id)
            pieces.append(part)
        elif part.strip():
            text_ids = tokenizer(part, add_special_tokens=False).input_ids
            ids.extend(text_ids)
            pieces.extend(tokenizer.convert_ids_to_tokens(text_ids))
    room = window - 1
    lost = "".join(piece.replace("</w>", " ") for piece in pieces[room:]).strip()
    ids = ids[:room] + [tokenizer.eos_token_id]
    ids += [tokenizer.pad_token_id] * (window - len(ids))
    kept = tuple((place, token) for place, token in concept_tokens if place < room)
    return TokenisedPrompt(tuple(ids), kept, lost)


def encode(text_encoder: CLIPTextModel, prompts: Sequence[TokenisedPrompt]) -> Tensor:
    """(prompts, places, dim) encodings that every layer of the U-Net shares."""
    ids = torch.tensor([prompt.ids for prompt in prompts], device=text_encoder.device)
    encoding: Tensor = text_encoder(input_ids=ids).last_hidden_state
    return encoding


def encode_layerwise(
    text_encoder: CLIPTextModel, prompts: Sequence[TokenisedPrompt], embeddings: Tensor
) -> Tensor:
    """(prompts, layers, places, dim) encodings, one for each cross-attention layer (P+).

    embeddings: (tokens, layers, dim), one concept's; `concept_tokens` of the prompts index them.
    Gradients flow into `embeddings`.
    """
    layers = embeddings.shape[1]
    ids = torch.tensor([prompt.ids for prompt in prompts], device=text_encoder.device)
    ids = ids.repeat_interleave(layers, dim=0)
    rows: list[int] = []
    places: list[int] = []
    tokens: list[int] = []
    for index, prompt in enumerate(prompts):
        for place, token in prompt.concept_tokens:
            rows.append(index)
            places.append(place)
            tokens.append(token)
    with token_embeddings_replaced(text_encoder, len(prompts), rows, places, embeddings[tokens]):
        encoding: Tensor = text_encoder(input_ids=ids).last_hidden_state
    return encoding.unflatten(0, (len(prompts), layers))


@contextmanager
def token_embeddings_replaced(
    text_encoder: CLIPTextModel,
    prompts: int,
    rows: Sequence[int],
    places: Sequence[int],
    values: Tensor,
) -> Iterator[None]:
    """Let the token embedding layer put `values` (n, layers, dim) at (rows, places) of its output.

    The input batch must be (prompts * layers, window), layers running fastest.
    """

    def replace(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        layered = output.unflatten(0, (prompts, values.shape[1]))
        index = (
            torch.tensor(rows, dtype=torch.long),
            slice(None),
            torch.tensor(places, dtype=torch.long),
        )
        layered = layered.clone()
        layered[index] = values.to(layered.dtype)
        return layered.flatten(0, 1)

    handle = text_encoder.get_input_embeddings().register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _split(prompt: str, words: Sequence[str]) -> list[str]:
    if not words:
        return [prompt]
    longest_first = sorted(words, key=len, reverse=True)
    return re.split("(" + "|".join(re.escape(word) for word in longest_first) + ")", prompt)
