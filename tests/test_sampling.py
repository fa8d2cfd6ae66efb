"""What a person relies on when composing: parts that act, batches that agree, a base left alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from toolkit.backbones import Base, load_base
from toolkit.concept import Concept
from toolkit.errors import InputError, RunError
from toolkit.layout.layout import Layout, Region
from toolkit.methods import PRESETS, LoraComposer, Method, Preset
from toolkit.methods.lora_composer import BALANCED, PUBLISHED
from toolkit.methods.refining import Refining
from toolkit.sampling import compose, denoise, initial_noise

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
    ready = {item.name: method.prepare(base, item, concepts) for item in layouts}
    return compose(base, method, [ready[item.name] for item in layouts], seeds, steps)


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
    full = sample(reference_base, concepts, [layout()], [3], PUBLISHED)
    without = sample(reference_base, concepts, [layout()], [3], LoraComposer(**{switch: False}))
    assert (full - without).abs().max() > 1e-3 * full.std()


def test_a_concepts_lora_acts_through_its_strength(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    weak = Region("dog", "<dog>, sitting", LEFT, strength=0.2)
    changed = layout(regions=(weak, layout().regions[1]))
    first = sample(reference_base, concepts, [layout()], [3], PUBLISHED)
    second = sample(reference_base, concepts, [changed], [3], PUBLISHED)
    assert (first - second).abs().max() > 1e-3 * first.std()


def test_boxes_do_not_attend_into_each_other(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    (ready,) = PUBLISHED.prepare(reference_base, layout(), concepts)
    latents = torch.randn(1, 4, 24, 32, generator=torch.Generator().manual_seed(0))
    passes = reference_base.passes([ready], PUBLISHED.regional)
    with torch.no_grad():
        _, own = passes.maps(latents, torch.tensor(500), [0], self_attention=True)
    assert own is not None
    cells = own[0].unflatten(0, (6, 8)).unflatten(2, (6, 8))
    assert float(cells[1:5, 1:3, 2:5, 5:7].max()) == 0
    assert float(cells[0, 0, 2:5, 5:7].min()) > 0


@pytest.mark.parametrize("preset", list(Preset))
def test_a_mixed_batch_gives_what_single_runs_give(
    preset: Preset, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    other = layout("other", background="rock", regions=(Region("fox", "<fox>", RIGHT),))
    items = [(layout(), 1), (layout(), 2), (other, 1)]
    method = PRESETS[preset]
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


def test_layouts_of_no_one_and_five_regions_in_one_batch_are_what_each_is_alone(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    """Three of the five overlap in one cell, as closed boxes too."""
    boxes = [(0, 0, 0.5, 0.5), (0.2, 0, 0.7, 0.6), (0.3, 0.1, 1, 0.7), (0, 0.5, 0.5, 1), RIGHT]
    names = ["dog", "cat", "fox", "rock", "dog"]
    five = tuple(Region(n, f"<{n}>", box) for n, box in zip(names, boxes, strict=True))  # type: ignore[arg-type]
    one = (Region("cat", "<cat>", (0, 0, 1, 1), guidance_scale=3.0),)
    layouts = [layout("none", regions=()), layout("one", regions=one), layout("five", regions=five)]
    batch = sample(reference_base, concepts, layouts, [1, 2, 3], BALANCED, 2)
    for row, (item, seed) in enumerate(zip(layouts, [1, 2, 3], strict=True)):
        alone = sample(reference_base, concepts, [item], [seed], BALANCED, 2)[0]
        assert (batch[row] - alone).abs().max() < 1e-4 * alone.std()


def test_the_same_seed_gives_the_same_picture(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    first = sample(reference_base, concepts, [layout()], [5], PUBLISHED)
    assert torch.equal(first, sample(reference_base, concepts, [layout()], [5], PUBLISHED))


def test_the_base_is_left_as_it_was(reference_base: Base, concepts: dict[str, Concept]) -> None:
    before = {name: value.clone() for name, value in reference_base.unet.state_dict().items()}
    processors = dict(reference_base.unet.attn_processors)
    sample(reference_base, concepts, [layout(background="rock")], [1], PUBLISHED, 1)
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
    (ready,) = PUBLISHED.prepare(reference_base, layout(), concepts)
    passes = reference_base.passes([ready], PUBLISHED.regional)
    passes.maps(torch.zeros(1, 4, 24, 32), torch.tensor(500), [0], self_attention=True)
    for handle in handles:
        handle.remove()
    assert called == ["up 0", "up 1"]


def test_without_regions_and_background_it_is_plain_sampling(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    plain = Layout(name="plain", prompt="a dog in the park", width=256, height=192)
    ours = sample(reference_base, concepts, [plain], [4], PUBLISHED, 4)
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
    method = LoraComposer(step_size=float("inf"))
    with pytest.raises(RunError, match="no longer finite at step 0"):
        sample(reference_base, concepts, [layout()], [0], method, 2)


def test_a_prompt_that_is_too_long_names_the_lost_words(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    with pytest.raises(InputError, match="lost: .*zebra"):
        PUBLISHED.prepare(reference_base, layout(prompt="grass " * 20 + "zebra"), concepts)


def test_a_canvas_the_base_cannot_make_is_refused(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    with pytest.raises(InputError, match="multiples of 64"):
        PUBLISHED.prepare(reference_base, layout(width=250), concepts)


def test_a_box_without_a_guidance_cell_is_refused(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    tiny = Region("dog", "<dog>", (0.30, 0.30, 0.33, 0.9))
    with pytest.raises(InputError, match="holds no whole cell"):
        PUBLISHED.prepare(reference_base, layout(regions=(tiny,)), concepts)


def test_small_gradients_survive_half_precision(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    """Weights of 1/4000 and a step 4000 times as long: the update is as in single precision."""
    small = LoraComposer(
        enhancement_weight=0.002, fill_weight=0.0005, region_weight=0.0025, step_size=80000.0
    )
    half = load_base(REFERENCE / "model", "reference", guidance_downscale=4, dtype=torch.float16)
    noise, moves = initial_noise(reference_base, 256, 192, [0]), []
    for base in (reference_base, half):
        ready = small.prepare(base, layout(), concepts)
        refined, _ = Refining(base, ready, small, 50, 7.5).refine(noise, 0, torch.tensor(500))
        moves.append((refined - noise).flatten())
    single, halved = moves
    assert torch.cosine_similarity(single, halved, dim=0) > 0.99
    assert 0.9 < halved.norm() / single.norm() < 1.1


ALL = (0.0, 0.0, 1.0, 1.0)
"""With a box over the whole canvas another box's queries have a blocked score for every key."""


@pytest.mark.parametrize(
    ("method", "limit"), [(replace(PUBLISHED, step_size=4.0), 0.02), (BALANCED, 1e-4)]
)
def test_isolation_by_groups_is_isolation_by_a_mask_where_a_box_holds_the_whole_canvas(
    method: LoraComposer, limit: float, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    """As published the scores there are rounded to 1/16, which a mask must do as well."""
    boxes = layout(regions=(Region("dog", "<dog>", ALL), Region("cat", "<cat>", RIGHT)))
    ready = method.prepare(reference_base, boxes, concepts)
    noise = initial_noise(reference_base, 256, 192, [3])
    found = []
    for grouped in (True, False):
        process = Refining(reference_base, ready, method, 50, 7.5, grouped=grouped)
        steps = denoise(reference_base, process, noise, 1)
        found.append([step.latents for step in steps][-1])
    by_groups, by_mask = found
    assert (by_groups - by_mask).abs().max() < limit * by_groups.std()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_box_over_the_whole_canvas_composes_in_half_precision(
    dtype: torch.dtype, reference_base: Base, concepts: dict[str, Concept]
) -> None:
    boxes = layout(regions=(Region("dog", "<dog>", ALL), Region("cat", "<cat>", RIGHT)))
    half = load_base(REFERENCE / "model", "reference", guidance_downscale=4, dtype=dtype)
    single = sample(reference_base, concepts, [boxes], [3], BALANCED, 2)
    halved = sample(half, concepts, [boxes], [3], BALANCED, 2)
    assert torch.cosine_similarity(single.flatten(), halved.flatten(), dim=0) > 0.99


def test_a_picture_that_guidance_tears_apart_ends_as_failed_not_as_done(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    with pytest.raises(RunError, match=r"guidance has destroyed the picture at step 0 .*balanced"):
        sample(reference_base, concepts, [layout()], [0], LoraComposer(step_size=1e5), 2)


def test_balanced_keeps_the_latents_in_range_whatever_the_step(
    reference_base: Base, concepts: dict[str, Concept]
) -> None:
    wild = replace(BALANCED, step_size=1e5)
    plain = replace(BALANCED, enhancement=False, fill_loss=False, region_loss=False)
    torn, calm = (sample(reference_base, concepts, [layout()], [0], m, 4) for m in (wild, plain))
    assert 0.8 < torn.std() / calm.std() < 1.25
