"""Whatever a concept changes of the U-Net acts in its region as on a whole canvas, only there."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from changed_unets import MAPS, by_lycoris, by_peft
from tiny_families import write_xl
from torch import Tensor, nn

from toolkit.backbones import Base, Part, load_base
from toolkit.backbones.prompts import Prompt, Regional
from toolkit.concept import Concept, LowRank
from toolkit.concept.formats.read import read_foreign
from toolkit.layout.layout import Layout, Region

WHOLE = Regional(self_attention=True, queries=True, isolation=False)
TEXT = "sks dog"
SIZE = 128
LEFT = (0.0, 0.0, 0.5, 1.0)
TIMESTEP = torch.tensor(401)
RESNET = "down_blocks.1.resnets.0"
BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"

SEEN = {  # what a map adds is seen in what another module is given (-1) or says (1), cell by cell
    "conv_in": ("down_blocks.0.resnets.0", -1),
    "down_blocks.0.downsamplers.0.conv": ("down_blocks.0.downsamplers.0", 1),
    "up_blocks.0.upsamplers.0.conv": ("up_blocks.0.upsamplers.0", 1),
    f"{RESNET}.norm1": (f"{RESNET}.conv1", -1),
    f"{RESNET}.conv1": (f"{RESNET}.norm2", -1),
    f"{RESNET}.conv2": (RESNET, 1),
    f"{RESNET}.conv_shortcut": (RESNET, 1),
    f"{RESNET}.time_emb_proj": (f"{RESNET}.norm2", -1),
    "time_embedding.linear_1": ("down_blocks.0.resnets.0.norm2", -1),
    "down_blocks.1.attentions.0.proj_in": (BLOCK, -1),
    f"{BLOCK}.attn1.to_q": (f"{BLOCK}.attn1", 1),
    f"{BLOCK}.attn1.to_out.0": (f"{BLOCK}.attn1", 1),
    f"{BLOCK}.attn2.to_q": (f"{BLOCK}.attn2", 1),
    f"{BLOCK}.attn2.to_v": (f"{BLOCK}.attn2", 1),
    f"{BLOCK}.attn2.to_out.0": (f"{BLOCK}.attn2", 1),
    f"{BLOCK}.norm3": (f"{BLOCK}.ff", -1),
    f"{BLOCK}.ff.net.0.proj": (f"{BLOCK}.ff.net.2", -1),
    f"{BLOCK}.ff.net.2": (f"{BLOCK}.ff", 1),
}
BY = {"peft": by_peft, "lycoris": by_lycoris}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    reference = Path(__file__).parent.parent / "reference" / "model"
    xl = write_xl(tmp_path_factory.mktemp("xl"))
    return {"1.x": load_base(reference, "reference"), "XL": load_base(xl, "xl")}


def latents_of(base: Base) -> Tensor:
    shape = (1, 4, *base.latent_size(SIZE, SIZE))
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def passed(
    base: Base, concept: Concept | None, box: tuple[float, float, float, float] | None
) -> dict[str, Tensor]:
    """What each of SEEN is told or says of the positive side, (channels, h, w), in one pass.

    box: the region in which the concept acts; None: on the whole canvas.
    """
    canvas, regions, places = Prompt(TEXT, change=concept), [], ()
    if box is not None:
        canvas, regions = Prompt(TEXT), [Prompt(TEXT, change=concept)]
        places = (Region("sks", "<sks>", box),)
    ready = base.condition(Layout("one", TEXT, SIZE, SIZE, places), canvas, regions)
    found: dict[str, Tensor] = {}
    handles = []
    for path, (name, way) in SEEN.items():

        def look(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor,
                 path: str = path, way: int = way) -> None:  # fmt: skip
            own = (output if way > 0 else inputs[0])[-1]
            if own.ndim == 2:
                own = own.T.unflatten(1, (int(len(own) ** 0.5), -1))
            found[path] = own

        handles.append(base.unet.get_submodule(name).register_forward_hook(look))
    with torch.no_grad():
        base.passes([ready], WHOLE).predict(latents_of(base), TIMESTEP, 1.0)
    for handle in handles:
        handle.remove()
    return found


def inside_and_outside(image: Tensor) -> tuple[Tensor, Tensor]:
    half = image.shape[2] // 2
    return image[:, :, :half], image[:, :, half:]


@pytest.mark.parametrize(
    ("family", "library", "kind"),
    [
        ("1.x", "peft", "dora"),
        ("1.x", "peft", "ia3"),
        ("1.x", "lycoris", "locon"),
        ("1.x", "lycoris", "loha"),
        ("1.x", "lycoris", "lokr_dora"),
        ("1.x", "lycoris", "full"),
        ("XL", "peft", "dora"),
        ("XL", "lycoris", "locon"),
        ("XL", "lycoris", "lokr"),
    ],
)
def test_each_map_is_changed_in_the_region_as_on_the_canvas(
    family: str, library: str, kind: str, bases: dict[str, Base], tmp_path: Path
) -> None:
    base = bases[family]
    _, file = BY[library](base.unet, kind, tmp_path)
    concept = read_foreign(file, "sks", base, trigger=TEXT)
    plain = passed(base, None, None)
    changed = [path for path in SEEN if path in concept.unet]
    assert set(changed) >= (set(SEEN) & set(MAPS))
    for path in changed:
        one = concept.with_changes({Part.UNET: {path: concept.unet[path]}})
        whole, own = passed(base, one, None)[path], passed(base, one, LEFT)[path]
        within, beyond = inside_and_outside(own)
        deviation = plain[path].std()
        expected, _ = inside_and_outside(whole)
        before, untouched = inside_and_outside(plain[path])
        assert (expected - before).abs().max() > 1e-2 * deviation, path
        assert (within - expected).abs().max() < 1e-4 * deviation, path
        assert (beyond - untouched).abs().max() < 1e-5 * deviation, path


def drawn(base: Base, path: str, seed: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    rows, columns, *kernel = base.weight_shapes(Part.UNET)[path]
    down = torch.randn(2, columns, *kernel, generator=generator)
    return LowRank(down, torch.randn(rows, 2, generator=generator))


def lora(name: str, changes: dict[str, LowRank]) -> Concept:
    return Concept(name, torch.zeros(0, 0, 0), (), changes, {}, trigger_words=TEXT)


def convolved(base: Base, ready: object, path: str, regional: Regional = WHOLE) -> Tensor:
    found: list[Tensor] = []
    module = base.unet.get_submodule(SEEN[path][0])
    look: Callable[..., None] = lambda _m, inputs, _o: found.append(inputs[0][-1])  # noqa: E731
    handle = module.register_forward_hook(look)
    with torch.no_grad():
        base.passes([ready], regional).predict(latents_of(base), TIMESTEP, 1.0)  # type: ignore[list-item]
    handle.remove()
    return found[0]


def test_regions_that_overlap_mix_and_the_background_acts_beside_them(
    bases: dict[str, Base],
) -> None:
    base, path = bases["1.x"], "conv_in"
    dog, cat, rock = (lora(name, {path: drawn(base, path, seed)})
                      for seed, name in enumerate(("dog", "cat", "rock")))  # fmt: skip
    regions = (
        Region("dog", "<dog>", (0.0, 0.0, 0.5, 0.5)),
        Region("cat", "<cat>", (0.25, 0.0, 0.75, 0.5)),
    )
    layout = Layout("three", TEXT, SIZE, SIZE, regions)
    prompts = [Prompt(TEXT, change=own) for own in (dog, cat)]
    ready = base.condition(layout, Prompt(TEXT, change=rock), prompts)
    latents, convolution = latents_of(base), base.unet.conv_in
    with torch.no_grad():
        plain = convolution(latents)[0]
        one, two, behind = (
            torch.nn.functional.conv2d(latents, own.unet[path].matrix, padding=1)[0]
            for own in (dog, cat, rock)
        )
    found = convolved(base, ready, path) - plain
    assert torch.allclose(found[:, :8, :4], one[:, :8, :4], atol=1e-4)
    assert torch.allclose(found[:, :8, 4:8], (one + two)[:, :8, 4:8] / 2, atol=1e-4)
    assert torch.allclose(found[:, :8, 8:12], two[:, :8, 8:12], atol=1e-4)
    assert torch.allclose(found[:, 8:], behind[:, 8:], atol=1e-4)
    published = convolved(base, ready, path, Regional()) - plain
    assert torch.allclose(published, behind, atol=1e-4), "the regions' act with self-attention only"


def test_the_maps_of_guidance_see_them_and_their_gradient_flows(bases: dict[str, Base]) -> None:
    base = bases["1.x"]
    paths = ("conv_in", f"{RESNET}.time_emb_proj")
    concept = lora("dog", {path: drawn(base, path, 3) for path in paths})
    layout = Layout("one", TEXT, SIZE, SIZE, (Region("dog", "<dog>", LEFT),))
    maps = []
    for own in (concept, lora("dog", {})):
        ready = base.condition(layout, Prompt(TEXT), [Prompt(TEXT, change=own)])
        latents = latents_of(base).requires_grad_()
        cross, _ = base.passes([ready], WHOLE).maps(latents, TIMESTEP, [0], False)
        cross[0, 0, 1].sum().backward()
        assert latents.grad is not None and latents.grad.abs().max() > 0
        maps.append(cross.detach())
    assert (maps[0] - maps[1]).abs().max() > 1e-4
