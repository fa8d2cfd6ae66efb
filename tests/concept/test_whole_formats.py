"""Every format that people share acts as its own library makes it act, alone and in a region."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from changed_unets import LYCORIS, PEFT, by_lycoris, by_peft
from torch import nn

from toolkit.backbones import Base
from toolkit.backbones.prompts import Prompt, Regional
from toolkit.concept import Concept, load_concept
from toolkit.concept.file import save_concept
from toolkit.concept.formats.read import read_foreign
from toolkit.layout.layout import Layout

SIZE = (128, 64)
WHOLE = Regional(self_attention=True, queries=True, isolation=False)
TEXT = "sks dog"

Change = Callable[[nn.Module, str, Path], tuple[nn.Module, Path]]
KINDS = [(by_peft, kind) for kind in PEFT] + [(by_lycoris, kind) for kind in LYCORIS]


def noise_of(base: Base, concept: Concept | None) -> torch.Tensor:
    """What the base says of fixed latents under a concept that shapes the whole canvas."""
    layout = Layout("one", TEXT, *SIZE)
    ready = base.condition(layout, Prompt(TEXT, change=concept))
    return base.passes([ready], WHOLE).predict(latents_of(base), torch.tensor(401), 1.0)


def latents_of(base: Base) -> torch.Tensor:
    size = base.latent_size(*SIZE)
    return torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def theirs(base: Base, unet: nn.Module) -> torch.Tensor:
    encodings = base.encode_prompts([base.tokenise(TEXT)])
    return unet(latents_of(base), torch.tensor(401), encodings.hidden[:, 0]).sample


@torch.no_grad()
@pytest.mark.parametrize(("change", "kind"), KINDS)
def test_alone_it_is_what_its_own_library_makes_of_it(
    change: Change, kind: str, tiny_base: Base, tmp_path: Path
) -> None:
    unet, file = change(tiny_base.unet, kind, tmp_path)
    expected, plain = theirs(tiny_base, unet), theirs(tiny_base, tiny_base.unet)
    read = read_foreign(file, "sks", tiny_base, trigger=TEXT)
    assert (noise_of(tiny_base, None) - plain).abs().max() < 1e-4 * plain.std()
    assert (expected - plain).abs().max() > 0.1 * plain.std()
    assert (noise_of(tiny_base, read) - expected).abs().max() < 1e-4 * expected.std()
    save_concept(read, tmp_path / "sks.safetensors", torch.float32)
    kept = load_concept(tmp_path / "sks.safetensors")
    assert (noise_of(tiny_base, kept) - expected).abs().max() < 1e-4 * expected.std()
