"""Every format that people share acts as its own library makes it act, and goes out again."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from changed_unets import LYCORIS, MAPS, NORMS, PEFT, by_lycoris, by_peft, text_by_lycoris
from tiny_families import write_xl
from torch import nn

from toolkit.backbones import Base, Part, load_base
from toolkit.backbones.prompts import Prompt, Regional
from toolkit.backbones.unet.framing import Framing, added_conditions
from toolkit.concept import Concept, load_concept
from toolkit.concept.file import save_concept
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.formats.write import write_foreign
from toolkit.concept.merge import merged
from toolkit.errors import InputError
from toolkit.layout.layout import Layout

SIZE = (128, 64)
TEXT = "sks dog"
TIMESTEP = torch.tensor(401)

Change = Callable[[nn.Module, str, Path], tuple[nn.Module, Path]]
KINDS = [(by_peft, kind) for kind in PEFT] + [(by_lycoris, kind) for kind in LYCORIS]


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(write_xl(tmp_path_factory.mktemp("xl")), "xl")


def noise_of(base: Base, concept: Concept | None) -> torch.Tensor:
    """What the base says of fixed latents under a concept that shapes the whole canvas."""
    ready = base.condition(Layout("one", TEXT, *SIZE), Prompt(TEXT, change=concept))
    return base.passes([ready], Regional()).predict(latents_of(base), TIMESTEP, 1.0)


def latents_of(base: Base) -> torch.Tensor:
    size = base.latent_size(*SIZE)
    return torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))


def theirs(base: Base, unet: nn.Module) -> torch.Tensor:
    """What a U-Net says of the same, called as diffusers' pipelines call it."""
    encodings = base.encode_prompts([base.tokenise(TEXT)])
    told = added_conditions(encodings.pooled, [Framing.whole(*SIZE)])
    return unet(latents_of(base), TIMESTEP, encodings.hidden[:, 0], added_cond_kwargs=told).sample


def check_acts(base: Base, change: Change, kind: str, folder: Path) -> Concept:
    """Check that a file acts as the U-Net does that it was written of; the concept in it."""
    unet, file = change(base.unet, kind, folder)
    expected, plain = theirs(base, unet), theirs(base, base.unet)
    read = read_foreign(file, "sks", base, trigger=TEXT)
    assert set(MAPS) <= set(read.unet)
    assert (expected - plain).abs().max() > 0.02 * plain.std()
    assert (noise_of(base, read) - expected).abs().max() < 1e-4 * expected.std()
    return read


@torch.no_grad()
@pytest.mark.parametrize(("change", "kind"), KINDS)
def test_alone_it_is_what_its_own_library_makes_of_it(
    change: Change, kind: str, tiny_base: Base, tmp_path: Path
) -> None:
    read = check_acts(tiny_base, change, kind, tmp_path)
    assert kind != "full" or set(NORMS) <= set(read.unet)
    said = noise_of(tiny_base, read)
    save_concept(read, tmp_path / "sks.safetensors", torch.float32)
    kept = load_concept(tmp_path / "sks.safetensors")
    together = merged([read], [1.0])
    for same in (kept, replace(together, trigger_words=TEXT)):
        assert (noise_of(tiny_base, same) - said).abs().max() < 1e-4 * said.std()
    nothing = merged([read], [1e-9])
    plain = noise_of(tiny_base, None)
    same = noise_of(tiny_base, replace(nothing, trigger_words=TEXT))
    assert (same - plain).abs().max() < 1e-4 * plain.std(), "of strength 0 there is nothing left"


@torch.no_grad()
@pytest.mark.parametrize(
    ("change", "kind"),
    [(by_peft, "dora"), (by_peft, "ia3"), (by_peft, "loha_cp"), (by_lycoris, "locon"),
     (by_lycoris, "lokr_cp"), (by_lycoris, "full")],
)  # fmt: skip
def test_on_stable_diffusion_xl_too(change: Change, kind: str, xl: Base, tmp_path: Path) -> None:
    check_acts(xl, change, kind, tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["loha", "lokr_dora", "full", "ia3"])
def test_text_encoders_are_changed_as_well(kind: str, tiny_base: Base, tmp_path: Path) -> None:
    encoder, file = text_by_lycoris(tiny_base.text_encoder, kind, tmp_path)
    read = read_foreign(file, "sks", tiny_base, trigger=TEXT)
    assert len(read.text_encoder) >= 3 and not read.unet
    expected = replace(tiny_base, text_encoder=encoder)
    prompt = [tiny_base.tokenise(TEXT)]
    theirs, plain = (base.encode_prompts(prompt).hidden for base in (expected, tiny_base))
    with tiny_base.changed(Part.TEXT_ENCODER, read.text_encoder):
        ours = tiny_base.encode_prompts(prompt).hidden
    assert (theirs - plain).abs().max() > 1e-2
    assert torch.allclose(ours, theirs, atol=1e-5)
    said, wanted = noise_of(tiny_base, read), noise_of(expected, None)
    assert (said - wanted).abs().max() < 1e-4 * wanted.std()


@torch.no_grad()
@pytest.mark.parametrize("family", ["1.x", "XL"])
@pytest.mark.parametrize(
    ("change", "kind"),
    [(by_lycoris, kind) for kind in LYCORIS] + [(by_peft, "dora"), (by_peft, "loha_cp")],
)
def test_what_goes_out_for_kohyas_tools_comes_in_again(
    change: Change, kind: str, family: str, xl: Base, tiny_base: Base, tmp_path: Path
) -> None:
    base = xl if family == "XL" else tiny_base
    if family == "XL" and kind not in ("locon", "full", "lokr"):
        pytest.skip("the names are those of all kinds")
    _, file = change(base.unet, kind, tmp_path)
    read = read_foreign(file, "sks", base, trigger=TEXT)
    (written,) = write_foreign(read, "kohya", tmp_path / "out.safetensors").files
    again = read_foreign(written, "sks", base, trigger=TEXT)
    assert again.unet.keys() == read.unet.keys()
    said = noise_of(base, read)
    assert (noise_of(base, again) - said).abs().max() < 1e-4 * said.std()


@torch.no_grad()
@pytest.mark.parametrize(("change", "kind"), [(by_lycoris, "locon"), (by_peft, "dora")])
def test_diffusers_loads_what_goes_out_for_it(
    change: Change, kind: str, tiny_base: Base, tmp_path: Path
) -> None:
    unet, file = change(tiny_base.unet, kind, tmp_path)
    expected = theirs(tiny_base, unet)
    read = read_foreign(file, "sks", tiny_base, trigger=TEXT)
    (written,) = write_foreign(read, "diffusers", tmp_path / "out.safetensors").files
    loaded = copy.deepcopy(tiny_base.unet)
    loaded.load_lora_adapter(str(written), prefix="unet")
    assert (theirs(tiny_base, loaded) - expected).abs().max() < 1e-4 * expected.std()


def test_what_a_format_cannot_hold_is_refused(tiny_base: Base, tmp_path: Path) -> None:
    _, file = by_peft(tiny_base.unet, "ia3", tmp_path)
    read = read_foreign(file, "sks", tiny_base, trigger=TEXT)
    for format in ("kohya", "diffusers", "mix_of_show"):
        with pytest.raises(InputError, match="has no place for"):
            write_foreign(read, format, tmp_path / "out.safetensors")
