"""The library is what the commands are: the same pictures, the same refusals, light to import."""

import ast
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import toolkit
from toolkit import (
    BALANCED,
    Base,
    Concept,
    InputError,
    Layout,
    Region,
    SecondPasses,
    compose,
    compose_steps,
    export_concept,
    load_base,
    load_concept,
    load_layout,
    load_method,
    pictures_of,
    sample,
    save_concept,
)
from toolkit.cli import main

LAYOUT = """
name: pair
prompt: a dog and a cat
width: 256
height: 192
regions:
  - {concept: dog, prompt: "<dog>, sitting", box: [0.05, 0.1, 0.45, 0.9]}
  - {concept: cat, prompt: <cat>, box: [0.55, 0.2, 0.95, 0.9]}
"""
STEPS = 2


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, concepts: dict[str, Concept]) -> Path:
    """A working folder with a layout and two concepts of the base `tiny`."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "pair.yaml").write_text(LAYOUT)
    for name in ("dog", "cat"):
        save_concept(concepts[name], folder / f"outputs/concepts/tiny/{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def base(tiny_base_folder: Path) -> Base:
    return load_base(tiny_base_folder, device="cpu")


@pytest.fixture(scope="module")
def pair(work: Path, base: Base) -> list[Concept]:
    return [load_concept(name, base, output_dir=work / "outputs") for name in ("dog", "cat")]


@pytest.fixture(scope="module")
def layout(work: Path) -> Layout:
    return load_layout(work / "pair.yaml")


def run(work: Path, base_folder: Path, *arguments: str) -> None:
    common = [f"model.path={base_folder}", f"output_dir={work / 'outputs'}", "trainer=cpu"]
    assert main([*arguments, *common, f"sampling.steps={STEPS}"]) == 0


def same(made: Image.Image, file: Path) -> bool:
    with Image.open(file) as written:
        return np.array_equal(np.asarray(made), np.asarray(written))


def test_importing_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, toolkit; dir(toolkit); toolkit.__all__; toolkit.Layout; toolkit.BALANCED\n"
        "toolkit.read_layouts; toolkit.InputError\n"
        "assert not {'torch', 'lightning', 'diffusers'} & set(sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_every_name_it_lists_is_there_and_seen_by_type_checkers() -> None:
    assert all(getattr(toolkit, name) is not None for name in toolkit.__all__)
    assert set(toolkit.__all__) <= set(dir(toolkit))
    tree = ast.parse(Path(toolkit.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    named = {(name, module) for module, names in toolkit._NAMES.items() for name in names}
    assert seen == named
    with pytest.raises(AttributeError, match="no attribute 'compse'"):
        _ = toolkit.compse  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["lora_composer", "balanced", "merge"])
def test_a_composed_picture_is_the_commands_to_the_byte(
    method: str,
    work: Path,
    tiny_base_folder: Path,
    base: Base,
    layout: Layout,
    pair: list[Concept],
) -> None:
    arguments = [f"layout={work / 'pair.yaml'}", f"method={method}", "seeds=[7,3]"]
    run(work, tiny_base_folder, "compose", *arguments, "figures=false")
    made = compose(layout, pair, base, method=method, seeds=[7, 3], steps=STEPS)
    folder = work / "outputs" / "compose" / method / "pair"
    assert same(made[0], folder / "7.png") and same(made[1], folder / "3.png")
    assert not same(made[0], folder / "3.png")


def test_second_passes_are_the_commands_to_the_byte(
    work: Path, tiny_base_folder: Path, base: Base, layout: Layout, pair: list[Concept]
) -> None:
    arguments = [f"layout={work / 'pair.yaml'}", "method=fast", "sampling.upscale=2"]
    run(work, tiny_base_folder, "compose", *arguments, "sampling.detail=true", "figures=false")
    plan = SecondPasses(upscale=2, detail=True)
    (made,) = compose(layout, pair, base, method="fast", steps=STEPS, second=plan)
    folder = work / "outputs" / "compose" / "fast+detail=true+upscale=2" / "pair"
    assert made.size == (512, 384) and same(made, folder / "0.png")
    with pytest.raises(InputError, match="method=merge has no regions that could act"):
        compose(layout, pair, base, method="merge", steps=STEPS, second=plan)


def test_a_sample_is_the_commands_to_the_byte(
    work: Path, tiny_base_folder: Path, base: Base, pair: list[Concept]
) -> None:
    prompt = "<dog> on the beach"
    size = {"width": 128, "height": 64}
    typed = [f"{side}={pixels}" for side, pixels in size.items()]
    run(work, tiny_base_folder, "sample", "concept=dog", f"prompt={prompt}", "seeds=2", *typed)
    made = sample(pair[0], prompt, base, seeds=2, steps=STEPS, **size)
    folder = work / "outputs" / "sample" / "tiny" / "dog" / "dog-on-the-beach"
    assert [same(picture, folder / f"{n}.png") for n, picture in enumerate(made)] == [True, True]


def test_one_reads_a_method_by_name_and_changes_a_switch(base: Base) -> None:
    assert load_method("balanced", base) == replace(BALANCED, name="balanced")
    assert load_method("no_fill", base) == replace(
        load_method("lora_composer", base), name="no_fill", fill_loss=False
    )


def test_who_watches_sees_every_step_and_a_preview_of_it(
    base: Base, layout: Layout, pair: list[Concept]
) -> None:
    seen: list[int] = []
    (made,) = compose(
        layout, pair, base, seeds=[5], steps=3, watch=lambda step: seen.append(step.number)
    )
    assert seen == [-1, 0, 1, 2]
    steps = list(compose_steps(layout, pair, base, seeds=[5], steps=3))
    assert [step.number for step in steps] == seen
    previews = [pictures_of(base, step.clean)[0] for step in steps]
    assert {preview.size for preview in previews} == {(256, 192)}
    (last,) = pictures_of(base, steps[-1].latents)
    assert np.array_equal(np.asarray(last), np.asarray(made))


def test_steps_of_two_pictures_may_be_taken_in_turn(
    base: Base, layout: Layout, pair: list[Concept]
) -> None:
    def begun(seed: int, method: str):  # type: ignore[no-untyped-def]
        return compose_steps(layout, pair, base, method=method, seeds=[seed], steps=3)

    alone = [[step.latents for step in begun(*one)] for one in ((1, "balanced"), (2, "merge"))]
    first, second = begun(1, "balanced"), begun(2, "merge")
    in_turn: list[list[torch.Tensor]] = [[], []]
    running = [(first, in_turn[0]), (second, in_turn[1])]
    while running:
        for one in list(running):
            step = next(one[0], None)
            if step is None:
                running.remove(one)
            else:
                one[1].append(step.latents)
    for together, apart in zip(in_turn, alone, strict=True):
        assert len(together) == len(apart)
        assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))


def test_stopping_early_leaves_the_base_as_it_was(
    base: Base, layout: Layout, pair: list[Concept]
) -> None:
    networks = base.networks
    before = {
        f"{part}.{name}": value.clone()
        for part, network in networks.items()
        for name, value in network.state_dict().items()
    }
    processors = dict(base.unet.attn_processors)
    steps = compose_steps(layout, pair, base, method="balanced", seeds=2, steps=4)
    next(steps)
    next(steps)
    steps.close()
    assert next(steps, None) is None
    assert torch.is_grad_enabled()
    assert base.unet.attn_processors == processors
    for part, network in networks.items():
        assert not any(module._forward_hooks for module in network.modules())
        for name, value in network.state_dict().items():
            assert torch.equal(value, before[f"{part}.{name}"])


def test_a_foreign_lora_is_read_under_a_name_of_ones_own(
    work: Path, base: Base, pair: list[Concept]
) -> None:
    written = export_concept(pair[0], work / "rex.safetensors", "kohya")
    lora, embedding = written.files
    rex = load_concept(lora, base, name="bello", embedding=str(embedding), class_word="dog")
    assert (rex.name, rex.class_word, rex.placeholder) == ("bello", "dog", "<bello>")
    assert load_concept(str(lora), base).token_names  # its embedding lies beside it
    embedding.unlink()
    with pytest.raises(InputError, match="trigger="):
        load_concept(str(lora), base)


def test_what_is_wrong_is_one_line_before_anything_is_made(
    tmp_path: Path, base: Base, layout: Layout, pair: list[Concept]
) -> None:
    far = Layout(**(vars(layout) | {"width": 250}))
    cases = [
        (lambda: load_base("mnii"), "there is no base mnii .nearest: mini"),
        (lambda: load_base(tmp_path), "cannot load the base model"),
        (lambda: load_base("mini", dtype="float31"), "dtype=float31"),
        (lambda: load_concept("rex", base, output_dir=tmp_path), "no concept rex of tiny"),
        (lambda: load_concept(tmp_path / "a.pt", base, name="a b"), "a b"),
        (lambda: load_layout("scene0"), "there is no layout=scene0"),
        (lambda: load_method("balansed", base), "nearest: balanced"),
        (lambda: compose(layout, pair[:1], base), "names cat, and the concepts given are dog"),
        (lambda: compose(layout, [*pair, pair[0]], base), "have one name"),
        (lambda: compose(layout, pair, base, seeds=0), "seeds=0"),
        (lambda: compose(layout, pair, base, steps=0), "sampling.steps must be at least 1"),
        (lambda: compose(far, pair, base), "multiples of 64"),
        (lambda: compose_steps(far, pair, base), "multiples of 64"),
        (lambda: sample(pair[0], "a dog", base), "write <dog> in it"),
        (lambda: toolkit.train("rex", tmp_path, "dog"), "rex"),
        (lambda: toolkit.train("rex", tmp_path, "dog", settings={"rank": 4}), "training.rank"),
        (lambda: export_concept(pair[0], tmp_path / "a.pt"), "ends in .safetensors"),
    ]
    for call, said in cases:
        with pytest.raises(InputError, match=said) as refused:
            call()
        assert "\n" not in str(refused.value)


def test_close_boxes_are_remarked_as_the_command_does(
    base: Base, pair: list[Concept], layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    left = replace(layout.regions[0], box=(0.05, 0.2, 0.5, 0.9))
    for start, said in ((0.3, "overlap;"), (0.5, "are less than a cell apart;")):
        near = replace(layout.regions[1], box=(start, 0.2, 0.95, 0.9))
        caplog.clear()
        list(
            compose_steps(
                replace(layout, regions=(left, near)), pair, base, method="prompt_only", steps=1
            )
        )
        (told,) = [text for text in caplog.messages if "the boxes of" in text]
        assert said in told


def test_training_in_a_thread_gives_the_concept(
    tmp_path: Path, tiny_base_folder: Path, base: Base
) -> None:
    images = tmp_path / "photos"
    images.mkdir()
    for number, colour in enumerate(("brown", "tan")):
        Image.new("RGB", (64, 64), colour).save(images / f"{number}.png")
    settings = {
        "training.batch_size": 1,
        "training.sample_every_steps": 0,
        "training.rank": 2,
        "training.mirror": True,
        "model.width": 64,
        "model.height": 64,
        "trainer": "cpu",
        "logger": "none",
    }
    with ThreadPoolExecutor(1) as pool:  # a page trains so, and a notebook that goes on meanwhile
        training = pool.submit(
            toolkit.train,
            "rex",
            images,
            "dog",
            model=tiny_base_folder,
            steps=2,
            output_dir=tmp_path / "outputs",
            settings=settings,
        )
        rex = training.result()
    assert (rex.name, rex.class_word, rex.rank) == ("rex", "dog", 2)
    assert rex.training["mirror"] == "true" and rex.training["steps"] == "2"
    rex.check_fits(base)
    again = load_concept("rex", base, output_dir=tmp_path / "outputs")
    assert torch.equal(again.embeddings, rex.embeddings)
    box = Region("rex", "<rex>", (0.0, 0.0, 1.0, 1.0))
    here = Layout(name="here", prompt="a dog", width=64, height=64, regions=(box,))
    assert compose(here, [rex], base, method="balanced", steps=1)[0].size == (64, 64)
