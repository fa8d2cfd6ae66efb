"""`toolkit fuse`: one concept out of several, made once, and gone on with after an interruption."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from toolkit.cli import main
from toolkit.concept import Concept, LowRank, load_concept, save_concept
from toolkit.concept.listed import concepts_in
from toolkit.fusion import fusion


@pytest.fixture
def out(tmp_path: Path, concepts: dict[str, Concept]) -> Path:
    for name in ("dog", "cat"):
        save_concept(concepts[name], tmp_path / "concepts" / "tiny" / f"{name}.safetensors")
    return tmp_path


@pytest.fixture
def fuse(out: Path, tiny_base_folder: Path) -> Callable[..., int]:
    def run(*arguments: str) -> int:
        return main(["fuse", *arguments, *model(out, tiny_base_folder), "trainer=cpu"])

    return run


def model(out: Path, base: Path) -> list[str]:
    return [f"model.path={base}", "model.width=64", "model.height=64", f"output_dir={out}"]


SMALL = ("concepts=dog,cat", "fusion.steps=2")


def test_the_fusion_is_a_concept_that_knows_all_tokens(
    fuse: Callable[..., int], out: Path, tiny_base_folder: Path
) -> None:
    assert fuse(*SMALL) == 0
    fused = load_concept(out / "concepts/tiny/dog_cat.safetensors")
    assert fused.token_names == ("<dog1>", "<dog2>", "<cat1>", "<cat2>")
    assert fused.training["concepts"] == "dog,cat"
    assert len(fused.text_encoder) == 8 and len(fused.unet) == 128
    base = model(out, tiny_base_folder)
    assert main(["export", "dog_cat", "format=mix_of_show", *base]) == 0
    assert main(["sample", "concept=dog_cat", *base, "sampling.steps=2", "trainer=cpu"]) == 0


def test_as_the_research_code_does_it(fuse: Callable[..., int], out: Path) -> None:
    research = ("fusion.solver=lbfgs", "fusion.scheduler=ddim", "name=research")
    assert fuse(*SMALL, *research) == 0 and fuse(*SMALL) == 0
    research, ours = (
        load_concept(out / "concepts/tiny" / f"{name}.safetensors")
        for name in ("research", "dog_cat")
    )
    for path, change in ours.text_encoder.items():
        whole, other = (
            c.up.float() @ c.down.float() for c in (change, research.text_encoder[path])
        )
        assert (whole - other).norm() < 0.05 * whole.norm(), path


def test_it_is_made_once_and_anew_when_a_concept_changes(
    fuse: Callable[..., int], out: Path, concepts: dict[str, Concept]
) -> None:
    path = out / "concepts/tiny/dog_cat.safetensors"
    assert fuse(*SMALL) == 0
    first, made = path.read_bytes(), path.stat().st_mtime_ns
    assert fuse(*SMALL) == 0
    assert path.stat().st_mtime_ns == made
    listed = {row[0]: row for row in concepts_in(out / "concepts", out / "runs")}
    assert listed["dog_cat"][2] == "fusion of dog,cat" and listed["dog_cat"][4:6] == ("-", "-")
    save_concept(replace(concepts["cat"], scale=0.5), out / "concepts/tiny/cat.safetensors")
    assert fuse(*SMALL) == 0
    assert path.read_bytes() != first
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "cat.safetensors",
        "dog.safetensors",
        "dog_cat.safetensors",
    ]


def test_an_interrupted_fusion_goes_on_where_it_was(
    fuse: Callable[..., int], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fuse(*SMALL, "name=whole") == 0
    look, looked = fusion.picture_evidence, []

    def interrupted(base: Any, concept: Concept, *others: Any) -> Any:
        looked.append(concept.name)
        if looked == ["dog", "cat"]:
            raise KeyboardInterrupt
        return look(base, concept, *others)

    monkeypatch.setattr(fusion, "picture_evidence", interrupted)
    assert fuse(*SMALL) == 130
    assert not (out / "concepts/tiny/dog_cat.safetensors").exists()
    assert fuse(*SMALL) == 0
    assert looked == ["dog", "cat", "cat"]
    whole, resumed = (
        load_concept(out / "concepts/tiny" / f"{name}.safetensors") for name in ("whole", "dog_cat")
    )
    assert whole.training == resumed.training
    for path, change in whole.unet.items():
        assert torch.equal(change.up, resumed.unet[path].up), path


def test_loras_without_tokens_are_called_by_their_trigger_words(
    fuse: Callable[..., int], out: Path, concepts: dict[str, Concept]
) -> None:
    dog = concepts["dog"]
    plain = replace(dog, embeddings=dog.embeddings[:0], token_names=(), trigger_words="sks dog")
    save_concept(plain, out / "concepts/tiny/dog.safetensors")
    assert fuse(*SMALL) == 0
    fused = load_concept(out / "concepts/tiny/dog_cat.safetensors")
    assert fused.token_names == ("<cat1>", "<cat2>")
    save_concept(replace(plain, trigger_words=""), out / "concepts/tiny/dog.safetensors")
    assert fuse(*SMALL) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say which concepts"),
        (("concepts=dog,rex",), "/concepts/tiny); run: toolkit train concept=rex"),
        (("concepts=dog,cat", "name=cat"), "cannot be called cat"),
        (("concepts=cat", "name=dog"), "is a concept of its own"),
        (("concepts=dog,cat", "fusion.solver=lbgfs"), "closed_form, lbfgs"),
        (("concepts=dog,cat", "fusion.steps=0"), "fusion.steps must be at least 1"),
    ],
)
def test_wrong_input_is_told_before_anything_is_made(
    arguments: tuple[str, ...],
    message: str,
    fuse: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fuse(*arguments) == 2
    assert message in capsys.readouterr().err


LAYOUT = """
name: two
prompt: grass
width: 128
height: 64
regions:
  - {concept: dog, prompt: <dog>, box: [0, 0, 0.5, 1]}
  - {concept: cat, prompt: <cat>, box: [0.5, 0, 1, 1]}
"""


def test_composing_fuses_what_is_not_fused_yet(out: Path, tiny_base_folder: Path) -> None:
    file = out / "two.yaml"
    file.write_text(LAYOUT)
    base = model(out, tiny_base_folder)
    compose = ["compose", f"layout={file}", "method=mix_of_show", *base, "sampling.steps=2"]
    assert main([*compose, "trainer=cpu"]) == 0
    fused = out / "concepts/tiny/dog_cat.safetensors"
    assert load_concept(fused).training["concepts"] == "dog,cat"
    first, made = (out / "compose/mix_of_show/two/0.png").read_bytes(), fused.stat().st_mtime_ns
    assert main([*compose, "trainer=cpu", "overwrite=true"]) == 0
    assert (out / "compose/mix_of_show/two/0.png").read_bytes() == first
    assert fused.stat().st_mtime_ns == made


def test_a_fusion_by_name_is_not_made_by_itself(
    out: Path, tiny_base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = out / "two.yaml"
    file.write_text(LAYOUT)
    base = model(out, tiny_base_folder)
    named = ["compose", f"layout={file}", "method=mix_of_show", "method.fusion=mine", *base]
    assert main(named) == 2
    said = capsys.readouterr().err
    assert "not fused yet: mine; run: toolkit fuse concepts=dog,cat" in said and "name=mine" in said


def test_a_fusion_is_not_made_by_one_of_several_processes(
    out: Path,
    tiny_base_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = out / "two.yaml"
    file.write_text(LAYOUT)
    base = model(out, tiny_base_folder)
    monkeypatch.setenv("RANK", "1")
    assert main(["compose", f"layout={file}", "method=mix_of_show", *base, "trainer=cpu"]) == 2
    assert "run toolkit fuse before several processes" in capsys.readouterr().err


def test_what_a_fusion_cannot_hold_is_refused(
    fuse: Callable[..., int],
    out: Path,
    concepts: dict[str, Concept],
    capsys: pytest.CaptureFixture[str],
) -> None:
    convolution = LowRank(torch.ones(1, 4, 3, 3), torch.ones(16, 1))
    dog = replace(concepts["dog"], unet={**concepts["dog"].unet, "conv_in": convolution})
    save_concept(dog, out / "concepts" / "tiny" / "dog.safetensors")
    assert fuse(*SMALL) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "conv_in" in one]
    assert "concept dog changes conv_in" in line and "weights of linear maps" in line
