"""Which images stand in which batch: a shuffled sequence without end, the same at any place."""

from collections.abc import Sequence

import numpy as np
import torch

ORDER, STEP, NOISE, CAPTIONS, PRIOR = range(5)
"""Keep the kinds of draws apart: images, a step's, validation's, a step's captions, its prior."""


def order(
    repeats: Sequence[int], start: int, number: int, seed: int, kind: int = ORDER
) -> list[int]:
    """Which images stand at places start to start + number of an endless shuffled sequence.

    In each round every image comes as often as its repeats say, in a new order.
    """
    pool = torch.tensor([i for i, times in enumerate(repeats) for _ in range(times)])
    chosen: list[int] = []
    while len(chosen) < number:
        turn, place = divmod(start + len(chosen), len(pool))
        shuffled = pool[torch.randperm(len(pool), generator=generator_at(seed, kind, turn))]
        chosen += shuffled[place : place + number - len(chosen)].tolist()
    return chosen


def order_by_size(
    repeats: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    number: int,
    batch_size: int,
    seed: int,
) -> list[int]:
    """The images of batch `number`: of one size, and fewer than `batch_size` where it has no more.

    In each round every image comes as often as its repeats say, in a new order, and the batches of
    the sizes come in any order.
    """
    pools: dict[tuple[int, int], list[int]] = {}
    for index, times in enumerate(repeats):
        pools.setdefault(sizes[index], []).extend([index] * times)
    batches_in_round = sum(-(-len(pool) // batch_size) for pool in pools.values())
    turn, place = divmod(number, batches_in_round)
    generator = generator_at(seed, ORDER, turn)
    batches = []
    for size in sorted(pools):
        pool = torch.tensor(pools[size])
        shuffled = pool[torch.randperm(len(pool), generator=generator)]
        batches += shuffled.split(batch_size)
    chosen: list[int] = batches[torch.randperm(len(batches), generator=generator)[place]].tolist()
    return chosen


def generator_at(seed: int, *place: int) -> torch.Generator:
    """A generator whose draws at (seed, *place) are unrelated to those at all others."""
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)
    return torch.Generator("cpu").manual_seed(int(state[0]) % 2**63)
