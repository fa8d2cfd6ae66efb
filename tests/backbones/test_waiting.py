"""`model.offload=true`: a network is on the base's device only while it is used.

There is no second device here, so what is asked to be where is recorded.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny_families import random_concept, write_xl
from torch import Tensor, nn

from toolkit.backbones import Base, load_base, waiting
from toolkit.backbones.waiting import WAIT_WHILE_COMPOSING
from toolkit.batch.module import Composer
from toolkit.layout.layout import Layout, Region
from toolkit.library.named import load_base as load_named
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.sampling import compose

PAIR = Layout(
    "pair", "a dog and a cat", 192, 128,
    (Region("dog", "<dog>, sitting", (0.0, 0.1, 0.45, 1.0)),
     Region("cat", "<cat>, sitting", (0.55, 0.2, 1.0, 0.9))),
)  # fmt: skip


class Places:
    """Which networks are at hand, and which were when a network was used."""

    def __init__(self) -> None:
        self.at_hand: set[nn.Module] = set()
        self.used: list[tuple[nn.Module, frozenset[nn.Module]]] = []

    def move(self, network: nn.Module, device: torch.device) -> None:
        """Networks that wait are brought and sent back in turns."""
        self.at_hand ^= {network}

    def watch(self, network: nn.Module, *parts: nn.Module) -> None:
        for part in parts or (network,):
            part.register_forward_pre_hook(
                lambda *_: self.used.append((network, frozenset(self.at_hand)))
            )


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    found = Places()
    monkeypatch.setattr(waiting, "move", found.move)
    yield found
    assert not found.at_hand, "all wait again in the end"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xl(tmp_path_factory.mktemp("waiting") / "xl")


def pixels(base: Base) -> Tensor:
    concepts = {name: random_concept(base, name, seed) for seed, name in enumerate(("dog", "cat"))}
    latents = compose(base, PUBLISHED, [PUBLISHED.prepare(base, PAIR, concepts)], [1], 2)
    with torch.no_grad():
        return base.decode(latents)


def test_composing_has_at_hand_what_it_uses_and_nothing_else(folder: Path, places: Places) -> None:
    base = load_base(folder, "xl", waiting=WAIT_WHILE_COMPOSING)
    assert base.vae is not None and base.text_encoder_2 is not None
    others = (base.text_encoder, base.text_encoder_2)
    for network in (base.unet, *others):
        places.watch(network)
    places.watch(base.vae, base.vae.decoder)
    made = pixels(base)
    assert {network for network, _ in places.used} == {base.unet, *others, base.vae}
    for network, at_hand in places.used:
        assert at_hand == ({network} - {base.unet})
    assert torch.equal(made, pixels(load_base(folder, "xl")))


def test_lightning_moves_only_what_does_not_wait(folder: Path) -> None:
    base = load_base(folder, "xl", waiting=WAIT_WHILE_COMPOSING)
    composer = Composer(base, {}, PUBLISHED, 2, 7.5)
    assert set(composer.parameters()) == set(base.unet.parameters())


def test_a_thread_that_decodes_does_not_send_the_autoencoder_away_from_another(
    folder: Path, places: Places
) -> None:
    base = load_base(folder, "xl", waiting=WAIT_WHILE_COMPOSING)
    assert base.vae is not None
    places.watch(base.vae, *base.vae.decoder.modules())
    latents = torch.zeros(1, 4, 8, 8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: base.decode(latents), range(12)))
    assert places.used and all(at_hand == {base.vae} for _, at_hand in places.used)


def test_the_setting_reaches_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs" / "model").mkdir(parents=True)
    base = load_named("mini")
    assert not base.waiting
    text = "defaults: [mini]\noffload: true\n"
    (tmp_path / "configs" / "model" / "small.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert load_named("small").waiting == WAIT_WHILE_COMPOSING
