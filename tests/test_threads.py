"""Threads that share a base do not disturb each other, down to the bit."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.prompts import Prompt
from toolkit.backbones.unet import conditioning
from toolkit.backbones.unet.encoding import EncodedPrompt
from toolkit.concept import Concept
from toolkit.layout.layout import Layout, Region
from toolkit.library.named import load_method
from toolkit.methods import LoraComposer, Method
from toolkit.methods.checks import check
from toolkit.methods.lora_composer import BALANCED, PUBLISHED
from toolkit.methods.merge import Merge
from toolkit.sampling import compose, denoise, initial_noise

LEFT, RIGHT = (0.05, 0.1, 0.45, 0.9), (0.55, 0.2, 0.95, 0.9)
FEED_FORWARD = "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2"

PAIR = Layout(
    "pair",
    "a dog and a cat",
    256,
    192,
    (Region("dog", "<dog>, sitting", LEFT), Region("cat", "<cat>, sitting", RIGHT)),
)
FOX = Layout(
    "fox", "a fox at <rock>", 192, 256, (Region("fox", "<fox>", RIGHT),), background="rock"
)


@pytest.fixture(scope="module")
def acting(concepts: dict[str, Concept], reference_base: Base) -> dict[str, Concept]:
    """The concepts, two of which also change a map that is hooked for the length of a pass."""
    weight = reference_base.map_weights(Part.UNET)[FEED_FORWARD]
    generator = torch.Generator().manual_seed(0)
    changed = dict(concepts)
    for name in ("dog", "fox"):
        pair = LowRank(
            torch.randn(2, weight.shape[1], generator=generator) * 0.3,
            torch.randn(weight.shape[0], 2, generator=generator) * 0.3,
        )
        old = concepts[name]
        changed[name] = replace(old, unet={**old.unet, FEED_FORWARD: pair})
    return changed


def made(base: Base, concepts: dict[str, Concept], layout: Layout, method: Method) -> Tensor:
    check(layout, base, concepts, method)
    return compose(base, method, [method.prepare(base, layout, concepts)], [3], 3)


@pytest.mark.parametrize(
    ("first", "second"),
    [(PUBLISHED, BALANCED), (BALANCED, Merge()), (LoraComposer(injection=False), PUBLISHED)],
)
def test_two_threads_make_what_one_after_the_other_makes(
    first: Method, second: Method, reference_base: Base, acting: dict[str, Concept]
) -> None:
    work: list[Callable[[], Tensor]] = [
        lambda: made(reference_base, acting, PAIR, first),
        lambda: made(reference_base, acting, FOX, second),
    ]
    apart = [one() for one in work]
    with ThreadPoolExecutor(2) as pool:
        together = [future.result() for future in [pool.submit(one) for one in work * 3]]
    for number, latents in enumerate(together):
        assert torch.equal(latents, apart[number % 2])


def test_a_thread_that_composes_waits_for_one_that_trains_on_its_base(
    reference_base: Base, acting: dict[str, Concept]
) -> None:
    alone = made(reference_base, acting, PAIR, BALANCED)
    begun, results = threading.Event(), []

    def composing() -> None:
        begun.set()
        results.append(made(reference_base, acting, PAIR, BALANCED))

    generator = torch.Generator().manual_seed(0)
    thread = threading.Thread(target=composing)
    with reference_base.lora_injected(2, generator), reference_base.heard_by_layer():
        thread.start()
        begun.wait()
        prompt = reference_base.tokenise("a dog")
        for _ in range(3):
            encodings = reference_base.encode_prompts([prompt])
            said = reference_base.predict(torch.zeros(1, 4, 24, 32), torch.tensor(500), encodings)
            said.sum().backward()
    thread.join()
    assert torch.equal(results[0], alone)


def test_a_layout_half_prepared_waits_for_a_training_that_begins(
    reference_base: Base, acting: dict[str, Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, injected = threading.Event(), threading.Event()
    original = conditioning.encode_prompts

    def encode_and_wait(base: Base, prompts: Sequence[Prompt]) -> list[EncodedPrompt]:
        found = original(base, prompts)
        encoded.set()
        injected.wait()
        return found

    (alone,) = PUBLISHED.prepare(reference_base, PAIR, acting)
    monkeypatch.setattr(conditioning, "encode_prompts", encode_and_wait)
    with ThreadPoolExecutor(1) as pool:
        preparing = pool.submit(PUBLISHED.prepare, reference_base, PAIR, acting)
        encoded.wait()
        with reference_base.lora_injected(2, torch.Generator()):
            injected.set()
            time.sleep(0.2)
            assert not preparing.done()
        (ready,) = preparing.result()
    assert all(torch.equal(ready.keys[site], alone.keys[site]) for site in alone.keys)


def test_pixels_are_decoded_while_another_thread_composes(
    tiny_base: Base, concepts: dict[str, Concept]
) -> None:
    latents = torch.randn(1, 4, 24, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        alone = tiny_base.decode(latents)

    def decoded() -> Tensor:
        with torch.no_grad():
            return tiny_base.decode(latents)

    with ThreadPoolExecutor(2) as pool:
        composing = pool.submit(made, tiny_base, concepts, PAIR, BALANCED)
        while not composing.done():
            assert torch.equal(decoded(), alone)
        composing.result()


def test_a_loop_of_ones_own_holds_nothing_between_its_steps(
    reference_base: Base, acting: dict[str, Concept]
) -> None:
    alone = made(reference_base, acting, FOX, BALANCED)
    prepared = PUBLISHED.prepare(reference_base, PAIR, acting)
    process = PUBLISHED.start(reference_base, [prepared], 3, 7.5)
    noise = initial_noise(reference_base, PAIR.width, PAIR.height, [3])
    steps = denoise(reference_base, process, noise, 3)
    next(steps)  # and then no more: another thread must not have to wait for it
    with ThreadPoolExecutor(1) as pool:
        assert torch.equal(
            pool.submit(made, reference_base, acting, FOX, BALANCED).result(60), alone
        )
    steps.close()


def test_configs_are_read_by_several_threads_at_once(reference_base: Base) -> None:
    names = ["balanced", "merge", "fast", "lora_composer"] * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: load_method(name, reference_base), names))
    assert [method.name for method in found] == names
