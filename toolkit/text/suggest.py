"""Naming what a person may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, valid: Iterable[str]) -> str:
    """`nearest: ...` for a message: up to three of `valid` that look like `word`, else all."""
    names = sorted(valid)
    word = word.lstrip("-+~")
    close = get_close_matches(word, names, n=3, cutoff=0.6)
    # Whoever types `step=` may mean `training.steps=`.
    ends = get_close_matches(_end(word), {_end(name) for name in names}, n=1, cutoff=0.8)
    same_end = [name for name in names if _end(name) in ends]
    same_end = get_close_matches(word, same_end, n=3, cutoff=0)
    found = list(dict.fromkeys([*same_end, *close]))[:3]
    if found:
        return f"nearest: {', '.join(found)}"
    return f"valid: {', '.join(names)}" if names else "there are none"


def _end(name: str) -> str:
    return name.rpartition(".")[2]
