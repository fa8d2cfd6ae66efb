"""The base's own vocabulary: a byte-level BPE in CLIP's format, learned from captions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WINDOW = 77


def learn_tokenizer(captions: Iterable[str], size: int = 1200) -> CLIPTokenizer:
    """A CLIP tokenizer of at most `size` tokens; any text can be written in its bytes."""
    empty = CLIPTokenizer()
    bpe = Tokenizer(BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = empty.backend_tokenizer.normalizer
    bpe.pre_tokenizer = empty.backend_tokenizer.pre_tokenizer
    alphabet = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=size - len(alphabet) - 2,
        min_frequency=2,
        end_of_word_suffix="</w>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    learned = sorted(bpe.get_vocab(), key=bpe.get_vocab().__getitem__)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = dict.fromkeys(
        [*alphabet, *(letter + "</w>" for letter in alphabet), *learned, BOS, EOS]
    )
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=WINDOW)


def grow_tokenizer(tokenizer: CLIPTokenizer, words: Sequence[str]) -> CLIPTokenizer:
    """The same tokenizer with each word as one token; new tokens come after all others.

    A word that is one token already changes nothing, so growing twice is growing once.
    """
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges = [tuple(pair) for pair in model["merges"]]
    for word in words:
        pieces = tokenizer.tokenize(word)
        while len(pieces) > 1:
            pair, joint = (pieces[0], pieces[1]), pieces[0] + pieces[1]
            if pair not in merges:
                merges.append(pair)
            vocabulary.setdefault(joint, len(vocabulary))
            pieces[:2] = [joint]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=WINDOW)
