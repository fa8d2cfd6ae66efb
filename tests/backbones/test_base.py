import copy
import threading

import torch

from toolkit.backbones import Base


def test_a_copy_of_a_base_is_locked_by_itself(tiny_base: Base) -> None:
    copied = copy.deepcopy(tiny_base)
    assert copied.weights == tiny_base.weights and copied.lock is not tiny_base.lock
    with tiny_base.lock, tiny_base.lock:
        taken: list[bool] = []

        def take_both() -> None:
            taken.extend((tiny_base.lock.acquire(blocking=False), copied.lock.acquire()))

        other = threading.Thread(target=take_both)
        other.start()
        other.join()
    assert taken == [False, True]


@torch.no_grad()
def test_prompts_without_a_concept_are_heard_alike_by_all_layers(tiny_base: Base) -> None:
    prompts = [tiny_base.tokenise(text) for text in ("a dog", "a cat", "a dog")]
    found = tiny_base.encode_prompts(prompts).hidden
    ((layers, width),) = tiny_base.embedding_shapes.values()
    assert found.shape == (3, layers, 77, width)
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1])
    assert all(torch.equal(found[:, 0], found[:, layer]) for layer in range(16))


def test_who_changes_a_base_keeps_other_threads_waiting(tiny_base: Base) -> None:
    def waits() -> bool:
        taken: list[bool] = []
        other = threading.Thread(target=lambda: taken.append(tiny_base.lock.acquire(False)))
        other.start()
        other.join()
        return taken == [False]

    with tiny_base.lora_injected(2, torch.Generator()):
        assert waits()
    with tiny_base.heard_by_layer():
        assert waits()
    assert tiny_base.lock.acquire(False)
