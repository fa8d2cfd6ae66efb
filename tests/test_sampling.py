"""What a person relies on when composing: parts that act, batches that agree, a base left alone."""

from pathlib import Path

import pytest
import torch

from toolkit.backbones import Base, load_base
from toolkit.backbones.unet.conditioning import prepare
from toolkit.concept import Concept
from toolkit.errors import InputError, RunError
from toolkit.layout.layout import Layout, Region
from toolkit.methods.guidance import attention_maps, refine, self_maps
from toolkit.methods.method import Method, Preset
from toolkit.sampling import compose, initial_noise

REFERENCE = Path(__file__).parent / "reference"
LEFT, RIGHT = (0.05, 0.1, 0.45, 0.9), (0.55, 0.2, 0.95, 0.9)


def layout(name: str = "pair", background: str | None = None, **change: object) -> Layout:
    prompt = "a dog and a cat at <rock>" if background else "a dog and a cat"
    regions = (
        Region("dog", "<dog>, sitting", LEFT),
        Region("cat", "<cat>, sitting", RIGHT),
    )
    values = {"prompt": prompt, "width": 256, "height": 192, "regions": regions} | change
    return Layout(name=name, background=background, **values)  # type: ignore[arg-type]


def sample(
    base: Base,
    concepts: dict[str, Concept],
    layouts: list[Layout],
    seeds: list[int],
    method: Method,
    steps: int = 3,
) -> torch.Tensor:
    ready = {item.name: prepare(base, item, concepts) for item in layouts}
    return compose(base, [ready[item.name] for item in layouts], seeds, method, steps)


@pytest.mark.parametrize(
    "switch",
    [
        "injection",
        "concept_region_mask",
        "enhancement",
        "gaussian_weight",
        "fill_loss",
        "region_loss",
        "reinitialisation",
    ],
)
def test_every_part_of_the_method_changes_the_picture(
    switch: str, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    full = sample(reference_base, concepts, [layout()], [3], Method())
    without = sample(reference_base, concepts, [layout()], [3], Method(**{switch: False}))
    assert (full - without).abs().max() > 1e-3 * full.std()


def test_a_concepts_lora_acts_through_its_strength(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    weak = Region("dog", "<dog>, sitting", LEFT, strength=0.2)
    changed = layout(regions=(weak, layout().regions[1]))
    first = sample(reference_base, concepts, [layout()], [3], Method())
    second = sample(reference_base, concepts, [changed], [3], Method())
    assert (first - second).abs().max() > 1e-3 * first.std()


def test_boxes_do_not_attend_into_each_other(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    ready = [prepare(reference_base, layout(), concepts)]
    latents = torch.randn(1, 4, 24, 32, generator=torch.Generator().manual_seed(0))
    timestep = torch.tensor(500)
    with torch.no_grad():
        maps = attention_maps(reference_base, latents, timestep, ready, Method(), True)
    (own,) = self_maps(ready, maps)
    assert own is not None
    cells = own.unflatten(0, (6, 8)).unflatten(2, (6, 8))
    assert float(cells[1:5, 1:3, 2:5, 5:7].max()) == 0
    assert float(cells[0, 0, 2:5, 5:7].min()) > 0


@pytest.mark.parametrize("preset", list(Preset))
def test_a_mixed_batch_gives_what_single_runs_give(
    preset: Preset, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    other = layout("other", background="rock", regions=(Region("fox", "<fox>", RIGHT),))
    items = [(layout(), 1), (layout(), 2), (other, 1)]
    method = Method(preset=preset)
    batch = sample(
        reference_base,
        concepts,
        [item for item, _ in items],
        [seed for _, seed in items],
        method,
        7,
    )
    for row, (item, seed) in enumerate(items):
        alone = sample(reference_base, concepts, [item], [seed], method, 7)[0]
        assert (batch[row] - alone).abs().max() < 1e-4 * alone.std()


def test_the_same_seed_gives_the_same_picture(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    first = sample(reference_base, concepts, [layout()], [5], Method())
    assert torch.equal(first, sample(reference_base, concepts, [layout()], [5], Method()))


def test_the_base_is_left_as_it_was(reference_base: Base, concepts: dict[str, Concept]) -> None:
    before = {name: value.clone() for name, value in reference_base.unet.state_dict().items()}
    processors = dict(reference_base.unet.attn_processors)
    sample(reference_base, concepts, [layout(background="rock")], [1], Method(), 1)
    after = reference_base.unet.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert reference_base.unet.attn_processors == processors
    assert not reference_base.text_encoder.get_input_embeddings()._forward_hooks


def test_the_guidance_pass_ends_at_the_last_map(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    called: list[str] = []
    handles = [
        reference_base.unet.up_blocks[index].register_forward_pre_hook(
            lambda _module, _inputs, index=index: called.append(f"up {index}")
        )
        for index in range(4)
    ]
    ready = [prepare(reference_base, layout(), concepts)]
    latents = torch.zeros(1, 4, 24, 32)
    attention_maps(reference_base, latents, torch.tensor(500), ready, Method(), True)
    for handle in handles:
        handle.remove()
    assert called == ["up 0", "up 1"]


def test_without_regions_and_background_it_is_plain_sampling(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    plain = Layout(name="plain", prompt="a dog in the park", width=256, height=192)
    ours = sample(reference_base, concepts, [plain], [4], Method(), 4)
    scheduler = reference_base.scheduler(4)
    latents = torch.randn((1, 4, 24, 32), generator=torch.Generator("cpu").manual_seed(4))
    tokens = reference_base.tokenizer(
        ["", plain.prompt], padding="max_length", max_length=77, return_tensors="pt"
    )
    with torch.no_grad():
        text = reference_base.text_encoder(tokens.input_ids).last_hidden_state
        for timestep in scheduler.timesteps:
            noise = reference_base.unet(latents.repeat(2, 1, 1, 1), timestep, text).sample
            negative, positive = noise.chunk(2)
            noise = negative + 7.5 * (positive - negative)
            latents = scheduler.step(noise, timestep, latents).prev_sample
    assert (ours - latents).abs().max() < 1e-4 * latents.std()


def test_latents_that_are_not_finite_end_the_run(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    method = Method(step_size=float("inf"))
    with pytest.raises(RunError, match="no longer finite at step 0"):
        sample(reference_base, concepts, [layout()], [0], method, 2)


def test_a_prompt_that_is_too_long_names_the_lost_words(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    with pytest.raises(InputError, match="lost: .*zebra"):
        prepare(reference_base, layout(prompt="grass " * 20 + "zebra"), concepts)


def test_a_canvas_the_base_cannot_make_is_refused(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    with pytest.raises(InputError, match="multiples of 64"):
        prepare(reference_base, layout(width=250), concepts)


def test_a_box_without_a_guidance_cell_is_refused(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    tiny = Region("dog", "<dog>", (0.30, 0.30, 0.33, 0.9))
    with pytest.raises(InputError, match="holds no whole cell"):
        prepare(reference_base, layout(regions=(tiny,)), concepts)


def test_small_gradients_survive_half_precision(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    """Weights of 1/4000 and a step 4000 times as long: the update is as in single precision."""
    small = Method(
        enhancement_weight=0.002, fill_weight=0.0005, region_weight=0.0025, step_size=80000.0
    )
    half = load_base(REFERENCE / "model", "reference", guidance_downscale=4, dtype=torch.float16)
    noise, moves = initial_noise(reference_base, 256, 192, [0]), []
    for base in (reference_base, half):
        ready = [prepare(base, layout(), concepts)]
        refined, _ = refine(base, noise, torch.tensor(500), ready, small, small.step_size)
        moves.append((refined - noise).flatten())
    single, halved = moves
    assert torch.cosine_similarity(single, halved, dim=0) > 0.99
    assert 0.9 < halved.norm() / single.norm() < 1.1


def test_a_picture_that_guidance_tears_apart_ends_as_failed_not_as_done(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    with pytest.raises(RunError, match=r"guidance has destroyed the picture at step 0 .*balanced"):
        sample(reference_base, concepts, [layout()], [0], Method(step_size=1e5), 2)


def test_balanced_keeps_the_latents_in_range_whatever_the_step(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    wild = Method(preset=Preset.BALANCED, step_size=1e5)
    plain = Method(preset=Preset.BALANCED, enhancement=False, fill_loss=False, region_loss=False)
    torn, calm = (sample(reference_base, concepts, [layout()], [0], m, 4) for m in (wild, plain))
    assert 0.8 < torn.std() / calm.std() < 1.25
