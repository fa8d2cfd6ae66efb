"""Cones 2 as a method: what its prompt says, whom it refuses, and what it leaves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_families import write_xl

from toolkit.backbones import Base, Part, load_base
from toolkit.cli import main
from toolkit.concept import Concept, save_concept
from toolkit.errors import InputError
from toolkit.layout.layout import Layout, Region
from toolkit.methods.checks import check
from toolkit.methods.cones2 import Cones2
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.methods.reading import with_subjects
from toolkit.sampling import compose
from toolkit.second.further import make_ready, run_to_end, take_further
from toolkit.second.plan import SecondPasses

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
LAYOUT = """\
name: pair
prompt: a dog and a cat
width: 128
height: 64
regions:
  - {{concept: {first}, prompt: <dog>, box: [0, 0, 0.5, 1]}}
  - {{concept: cat, prompt: <cat>, box: [0.5, 0, 1, 1]}}
"""


def learned(name: str, word: str, base: Base, by: float = 1.0) -> Concept:
    generator = torch.Generator().manual_seed(len(name))
    shape = (len(base.token_ids(word)), base.embedding_shapes[Part.TEXT_ENCODER][1])
    residual = by * torch.randn(shape, generator=generator)
    nothing = torch.zeros(0, *base.embedding_shapes[Part.TEXT_ENCODER])
    return Concept(
        name, nothing, (), {}, {}, class_word=word, trigger_words=word, residual=residual
    )


@pytest.fixture
def residuals(reference_base: Base) -> dict[str, Concept]:
    words = {"dog": "dog", "cat": "cat", "twin": "dog", "city": "city street"}
    return {name: learned(name, word, reference_base) for name, word in words.items()}


def layout(prompt: str, *regions: Region, background: str | None = None) -> Layout:
    return Layout("own", prompt, 128, 64, regions, background=background)


def test_two_subjects_of_one_word_have_a_mention_each(
    reference_base: Base, residuals: dict[str, Concept]
) -> None:
    dog, twin = Region("dog", "<dog>", LEFT), Region("twin", "<twin>, sitting", RIGHT)
    both = with_subjects(layout("a dog and a dog", dog, twin), residuals)
    assert both.text == "a dog and a dog"
    one = with_subjects(layout("a dog on grass", dog, twin), residuals)
    assert one.text == "a dog on grass, dog, sitting"
    for prompt in (both, one):
        conditioning = reference_base.condition(layout("a", dog, twin), prompt)
        first, second = (steered.places for steered in conditioning.steered)
        assert first[-1] < second[0]


def test_a_background_is_said_and_drawn_nowhere_in_particular(
    reference_base: Base, residuals: dict[str, Concept]
) -> None:
    own = layout("a dog in <city>", Region("dog", "<dog>", LEFT), background="city")
    prompt = with_subjects(own, residuals)
    assert prompt.text == "a dog in city street"
    assert [subject.word for subject in prompt.subjects] == ["city street", "dog"]
    conditioning = reference_base.condition(own, prompt)
    assert [one.region.concept for one in conditioning.steered] == ["dog"]


def test_another_class_word_than_the_learned_one_is_refused(
    reference_base: Base, residuals: dict[str, Concept]
) -> None:
    own = layout("a city street", Region("dog", "<dog>", LEFT))
    renamed = {"dog": replace(residuals["dog"], class_word="city street")}
    prompt = with_subjects(own, renamed)
    with pytest.raises(InputError, match="give the class word that it was trained with"):
        reference_base.condition(own, prompt)


def test_a_strength_scales_the_residual(residuals: dict[str, Concept]) -> None:
    half = layout("a dog", Region("dog", "<dog>", LEFT, strength=0.5))
    (subject,) = with_subjects(half, residuals).subjects
    torch.testing.assert_close(subject.residual, 0.5 * residuals["dog"].residual)


def test_a_picture_depends_on_its_seed_and_on_no_other(
    reference_base: Base, residuals: dict[str, Concept]
) -> None:
    method = Cones2(guidance_steps=2)
    own = layout("a dog", Region("dog", "<dog>", LEFT))
    prepared = method.prepare(reference_base, own, residuals)
    both = compose(reference_base, method, [prepared] * 2, [0, 1], steps=3)
    alone = compose(reference_base, method, [prepared], [1], steps=3)
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(both[0], both[1])


def test_layouts_of_one_batch_keep_their_own_boxes(
    reference_base: Base, residuals: dict[str, Concept]
) -> None:
    method = Cones2()
    layouts = [layout("a dog", Region("dog", "<dog>", box)) for box in (LEFT, RIGHT)]
    prepared = [method.prepare(reference_base, own, residuals) for own in layouts]
    together = compose(reference_base, method, prepared, [3, 3], steps=2)
    for picture, own in zip(together, prepared, strict=True):
        alone = compose(reference_base, method, [own], [3], steps=2)
        torch.testing.assert_close(picture[None], alone, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_another_recipes_concept_is_refused(
    reference_base: Base, residuals: dict[str, Concept], concepts: dict[str, Concept]
) -> None:
    own = layout("a dog", Region("dog", "<dog>", LEFT))
    with pytest.raises(InputError, match="dog is of recipe=ed_lora.*recipe=cones2"):
        check(own, reference_base, concepts, Cones2())
    with pytest.raises(InputError, match="dog is of recipe=ed_lora"):
        with_subjects(own, concepts)
    with pytest.raises(InputError, match="dog is of recipe=cones2.*recipe=ed_lora"):
        check(own, reference_base, residuals, PUBLISHED)
    wide = {"dog": replace(residuals["dog"], residual=torch.zeros(1, 8))}
    with pytest.raises(InputError, match="width 8"):
        check(own, reference_base, wide, Cones2())


def test_a_base_with_two_text_encoders_is_refused_before_a_concept_is_missed(
    tmp_path: Path, residuals: dict[str, Concept], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_xl(tmp_path / "xl")
    capsys.readouterr()
    (tmp_path / "pair.yaml").write_text(LAYOUT.format(first="dog"))
    typed = [f"layout={tmp_path / 'pair.yaml'}", f"output_dir={tmp_path / 'out'}", "trainer=cpu"]
    assert main(["compose", "method=cones2", f"model.path={folder}", *typed]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "xl has two (Stable Diffusion XL): take a base of" in said
    own = layout("a dog", Region("dog", "<dog>", LEFT))
    with pytest.raises(InputError, match="has two"):
        check(own, load_base(folder, "xl"), residuals, Cones2())


@pytest.fixture
def run(tmp_path: Path, tiny_base_folder: Path) -> Callable[..., int]:
    def compose_pair(first: str = "dog", *arguments: str) -> int:
        (tmp_path / "pair.yaml").write_text(LAYOUT.format(first=first))
        typed = [f"layout={tmp_path / 'pair.yaml'}", f"output_dir={tmp_path / 'out'}"]
        base = [f"model.path={tiny_base_folder}", "model.guidance_downscale=4", "trainer=cpu"]
        return main(["compose", "method=cones2", *typed, *base, "sampling.steps=2", *arguments])

    return compose_pair


def test_composing(
    run: Callable[..., int],
    tmp_path: Path,
    residuals: dict[str, Concept],
    concepts: dict[str, Concept],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run() == 2
    assert "run: toolkit train recipe=cones2 concept=dog,cat" in capsys.readouterr().err
    folder = tmp_path / "out/concepts/tiny"
    for name in ("dog", "cat"):
        save_concept(residuals[name], folder / "cones2" / f"{name}.safetensors")
        save_concept(concepts[name], folder / f"{name}.safetensors")
    assert run() == 0 and run() == 0
    entry = json.loads((tmp_path / "out/compose/cones2/pair/0.json").read_text())
    assert entry["status"] == "done" and entry["inputs"]["method"]["sampler"] == "cones2"
    capsys.readouterr()
    mine = tmp_path / "dog.safetensors"
    save_concept(concepts["dog"], mine)
    assert run(str(mine)) == 2 and run(str(mine), "method=merge") == 0
    save_concept(residuals["dog"], mine)
    assert run(str(mine), "seeds=[7]") == 0 and run(str(mine), "method=merge", "seeds=[9]") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("toolkit:")]
    assert len(lines) == 2 and "recipe=ed_lora" in lines[0] and "recipe=cones2" in lines[1]
    text = LAYOUT.replace("box: [0.5, 0, 1, 1]", "polygon: [[0.5, 0], [1, 0], [1, 1]]")
    (tmp_path / "drawn.yaml").write_text(text.format(first="dog"))
    assert run("dog", f"layout={tmp_path / 'drawn.yaml'}") == 2
    assert "method=cones2 knows boxes only" in capsys.readouterr().err
    save_concept(concepts["cat"], folder / "cones2/cat.safetensors")
    assert run() == 2
    assert "cat is of recipe=ed_lora" in capsys.readouterr().err


def test_a_picture_taken_further_has_its_words_drawn_to_their_boxes_again(
    tiny_base: Base, residuals: dict[str, Concept]
) -> None:
    dog, cat = Region("dog", "<dog>", (0.0, 0.0, 0.25, 0.5)), Region("cat", "<cat>", RIGHT)
    own = replace(layout("a dog and a cat", dog, cat), width=256, height=128)
    picture = torch.rand(3, 128, 256, generator=torch.Generator().manual_seed(1))

    def further(method: Cones2, tile: int | None = None) -> torch.Tensor:
        plan = SecondPasses(upscale=1.5, tile=tile)
        ready = make_ready(tiny_base, method, own, residuals, plan, (256, 256))
        steps = take_further(tiny_base, method, ready, picture, 3, plan, (256, 256), 4, 4.0)
        return run_to_end(steps, lambda step: None).pixels

    drawn = further(Cones2())
    assert not drawn.equal(further(Cones2(weight=0.0)))
    assert further(Cones2(), tile=192).shape == drawn.shape == (3, 192, 384)


def test_a_region_by_itself_is_drawn_by_its_own_residual(residuals: dict[str, Concept]) -> None:
    dog, cat = Region("dog", "<dog>", LEFT, strength=0.5), Region("cat", "<cat>, sitting", RIGHT)
    alone = Cones2().alone(layout("a dog and a cat", dog, cat), cat, residuals)
    assert alone.text == "cat, sitting"
    (subject,) = alone.subjects
    assert subject.word == "cat" and subject.residual.equal(residuals["cat"].residual)
