"""Prompts to text encodings, with a concept's own embeddings at its tokens' places."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from toolkit.backbones.unet.names import Part


@dataclass(frozen=True)
class TokenisedPrompt:
    """A prompt as text encoders read it.

    ids: one token id for each place of the window (77 for Stable Diffusion), padded as the first
        text encoder wants it.
    concept_tokens: for each place that holds a concept's token: (place, which of its tokens).
    lost: the words that did not fit into the window.
    end: the place of the token that ends the text.
    """

    ids: tuple[int, ...]
    concept_tokens: tuple[tuple[int, int], ...]
    lost: str
    end: int


@dataclass(frozen=True)
class Encodings:
    """Prompts as a U-Net hears them.

    hidden: (prompts, layers, places, width), one for each of its transformers.
    pooled: (prompts, pooled width), one vector for a whole prompt; None where none is wanted.
    """

    hidden: Tensor
    pooled: Tensor | None = None

    def rows(self, numbers: Sequence[int]) -> "Encodings":
        """Those of some prompts, each as often as it is named."""
        chosen = list(numbers)
        return Encodings(self.hidden[chosen], None if self.pooled is None else self.pooled[chosen])

    def to(self, dtype: torch.dtype) -> "Encodings":
        pooled = None if self.pooled is None else self.pooled.to(dtype)
        return Encodings(self.hidden.to(dtype), pooled)

    def followed_by(self, other: "Encodings") -> "Encodings":
        """These prompts, and then the other's."""
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = torch.cat([self.pooled, other.pooled])
        return Encodings(torch.cat([self.hidden, other.hidden]), pooled)


@dataclass(frozen=True)
class TextReader:
    """One text encoder of a base.

    penultimate: the U-Net hears what the last layer but one says, as it says it; else what the last
        layer says, normed. pools: a vector of the whole text is taken from it.
    """

    part: Part
    network: CLIPTextModel | CLIPTextModelWithProjection
    pad_token: int
    penultimate: bool = False
    pools: bool = False

    @property
    def width(self) -> int:
        """Of a token's embedding, and of what it says of a place."""
        return int(self.network.config.hidden_size)

    @property
    def attention_maps(self) -> str:
        """A pattern of the paths of attention's maps in every layer that is heard.

        The last layer of an encoder of which the last but one is heard, and that does not pool, is
        not: a LoRA on it would never get a gradient.
        """
        layers = int(self.network.config.num_hidden_layers)
        heard = layers - 1 if self.penultimate and not self.pools else layers
        numbers = "|".join(map(str, range(heard)))
        return rf".*\.layers\.({numbers})\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"

    def ids(self, prompts: Sequence[TokenisedPrompt]) -> Tensor:
        """(prompts, places) of token ids, padded as this text encoder was trained."""
        rows = [
            prompt.ids[: prompt.end + 1] + (self.pad_token,) * (len(prompt.ids) - prompt.end - 1)
            for prompt in prompts
        ]
        return torch.tensor(rows, device=self.network.device)

    def read(self, ids: Tensor, ends: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """(rows, places, width) of what it says, and (rows, pooled width) where it pools.

        ends: of each row. transformers looks for the end by its id, which an unknown word, as a
        concept's tokens are, has as well; so it is told here.
        """
        output = self.network(input_ids=ids, output_hidden_states=self.penultimate)
        hidden = output.hidden_states[-2] if self.penultimate else output.last_hidden_state
        if not self.pools:
            return hidden, None
        rows = torch.arange(len(ids), device=ids.device)
        at_end = output.last_hidden_state[rows, torch.tensor(ends, device=ids.device)]
        # as one place each, since a concept's change is of (rows, places, width)
        return hidden, self.network.text_projection(at_end[:, None])[:, 0]


def tokenise(
    prompt: str, tokenizer: CLIPTokenizer, concept_words: Sequence[str] = ()
) -> TokenisedPrompt:
    """Tokenise `prompt`; each of `concept_words` in it takes one place, whatever the vocabulary.

    The tokenizer is left as it is: a concept's words are cut out of the text first, so neither the
    vocabulary nor the embedding table has to grow. Their ids are the unknown token's; their
    embeddings come from the concept (`embeddings_put`).
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
    end = len(ids) - 1
    ids += [tokenizer.pad_token_id] * (window - len(ids))
    kept = tuple((place, token) for place, token in concept_tokens if place < room)
    return TokenisedPrompt(tuple(ids), kept, lost, end)


def encode(
    readers: Sequence[TextReader],
    prompts: Sequence[TokenisedPrompt],
    embeddings: Mapping[Part, Tensor] | None,
    layers: int,
) -> Encodings:
    """Prompts as each layer of the U-Net hears them (P+): all text encoders' words side by side.

    embeddings: for each text encoder (tokens, layers, width), one concept's; `concept_tokens` of
        the prompts index them. Gradients flow into them. Without any all layers hear the same.
    layers: how many encodings of a prompt the U-Net hears.
    The pooled vector is that of the mean of each token's embeddings over the layers.
    """
    hidden, pooled = [], None
    for reader in readers:
        ids, ends = reader.ids(prompts), [prompt.end for prompt in prompts]
        if embeddings is None:
            said, of_text = reader.read(ids, ends)
            hidden.append(said[:, None].expand(-1, layers, -1, -1))
        else:
            own = embeddings[reader.part]
            if reader.pools:
                own = torch.cat([own, own.mean(dim=1, keepdim=True)], dim=1)
            versions = own.shape[1]
            with _embeddings_put(reader.network, prompts, own):
                said, of_text = reader.read(
                    ids.repeat_interleave(versions, dim=0),
                    [end for end in ends for _ in range(versions)],
                )
            hidden.append(said.unflatten(0, (-1, versions))[:, :layers])
            of_text = None if of_text is None else of_text[versions - 1 :: versions]
        pooled = of_text if pooled is None else pooled
    return Encodings(torch.cat(hidden, dim=-1), pooled)


@contextmanager
def _embeddings_put(
    network: nn.Module, prompts: Sequence[TokenisedPrompt], embeddings: Tensor
) -> Iterator[None]:
    """Let the token embedding give a concept's own where its tokens stand.

    embeddings: (tokens, versions, width). The input must be (prompts * versions, places), versions
    running fastest.
    """
    versions = embeddings.shape[1]
    at = [
        (number * versions + version, place, token, version)
        for number, prompt in enumerate(prompts)
        for place, token in prompt.concept_tokens
        for version in range(versions)
    ]
    if not at:
        yield
        return
    rows, places, tokens, chosen = zip(*at, strict=True)
    with embeddings_put(network, rows, places, embeddings[list(tokens), list(chosen)]):
        yield


@contextmanager
def embeddings_put(
    network: nn.Module, rows: Sequence[int], places: Sequence[int], values: Tensor
) -> Iterator[None]:
    """Let a text encoder's token embedding give `values`, (n, width), at (rows, places)."""

    def put(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        index = torch.tensor([list(rows), list(places)], device=output.device)
        return output.index_put((index[0], index[1]), values.to(output))

    handle = network.get_input_embeddings().register_forward_hook(put)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


def _split(prompt: str, words: Sequence[str]) -> list[str]:
    if not words:
        return [prompt]
    longest_first = sorted(words, key=len, reverse=True)
    return re.split("(" + "|".join(re.escape(word) for word in longest_first) + ")", prompt)
