"""What can be known without torch is told without it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import cli
from toolkit.batch.there import composed_already
from toolkit.concept import load_concept, save_concept
from toolkit.config import read_compose, trainer
from toolkit.config.trainer import check_gpu, is_plain
from toolkit.errors import InputError

LAYOUT = """\
name: one
prompt: grass
width: 128
height: 64
regions:
  - concept: dog
    prompt: <dog>, sitting
    box: [0.05, 0.05, 0.45, 0.95]
"""
COUNTING = """
import json, sys
from time import process_time
from toolkit.cli import main
for arguments in json.loads(sys.argv[1]):
    before = process_time()
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    print(f"<{code}> {process_time() - before:.2f}", file=sys.stderr, flush=True)
    heavy = {"torch", "lightning", "diffusers", "transformers", "wandb"} & set(sys.modules)
    assert not heavy, f"{arguments}: {heavy}"
"""


def told(folder: Path, *commands: str) -> list[tuple[int, str]]:
    """The exit code of each command and what it said; fails when one of them imports torch.

    They run in one process of their own, so that what each may take is at most what all take.
    """
    typed = json.dumps([command.split() for command in commands])
    ended = subprocess.run(
        [sys.executable, "-c", COUNTING, typed],
        cwd=folder,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    answers, said = [], ""
    for line in ended.stderr.splitlines():
        if line.startswith("<"):
            code, seconds = line[1:].split("> ")
            assert float(seconds) < 2, said
            answers.append((int(code), said))
            said = ""
        else:
            said += line + "\n"
    assert len(answers) == len(commands)
    return answers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Layouts, and a file where a trained concept of the embedded base is."""
    (tmp_path / "one.yaml").write_text(LAYOUT)
    path = tmp_path / "outputs/concepts/mini/dog.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    return tmp_path


def test_a_layouts_mistakes_are_told_without_torch(folder: Path) -> None:
    changes = {
        "key": ("prompt: <dog>", "promt: <dog>", "unknown key promt"),
        "box": ("0.45, 0.95", "0.01, 1.95", "needs 0 <= x0 < x1"),
        "mask": ("box: [", "mask: gone.png # [", "region 1: mask gone.png (cannot be read"),
        "size": ("width: 128", "width: 100", "mini needs multiples of 64"),
        "cell": ("0.45, 0.95", "0.06, 0.06", "holds no whole cell of the 8 x 4 guidance grid"),
        "untrained": (
            "dog",
            "cat",
            "yet: cat (looked in outputs/concepts/mini); run: toolkit train concept=cat",
        ),
    }
    for name, (old, new, _) in changes.items():
        (folder / f"{name}.yaml").write_text(LAYOUT.replace(old, new))
    answers = told(
        folder,
        *[f"compose layout={name}.yaml" for name in changes],
        "evaluate layout=size.yaml methods=merge",
        "evaluate layout=untrained.yaml methods=merge",
    )
    expected = [said for _, _, said in changes.values()]
    for (code, said), wanted in zip(answers, [*expected, expected[3], expected[5]], strict=True):
        assert code == 2 and wanted in said and said.count("\n") == 1, said


def test_wrong_lines_of_a_layouts_file_are_told_without_torch(folder: Path) -> None:
    line = {"name": "a", "prompt": "x", "width": 100, "height": 64, "regions": []}
    (folder / "many.jsonl").write_text(f"{json.dumps(line)}\nnot json\n")
    ((code, said),) = told(folder, "compose layouts=many.jsonl")
    assert code == 2 and "line 1 of the layouts file" in said and "multiples of 64" in said


def test_what_else_is_wrong_is_told_without_torch(folder: Path) -> None:
    cases = {
        "compose layout=nosuch": "there is no layout=nosuch",
        "compose layout=one.yaml method.fil_loss=false": "nearest: method.fill_loss",
        "compose layout=one.yaml sampling.steps=many": "sampling.steps",
        "compose layout=one.yaml sampling.upscale=0.5": "sampling.upscale must be at least 1",
        "compose layout=one.yaml sampling.upscale=1.3": "makes 166.4 x 83.2 pixels of 128 x 64",
        "compose layout=one.yaml sampling.upscale=1.25": "160 x 80 pixels; mini needs multiples",
        "compose layout=one.yaml sampling.upscale=2 sampling.tile=100": "a multiple of 64",
        "compose layout=one.yaml sampling.upscale=2 sampling.upscale_strength=1.5": "at most 1",
        "compose layout=one.yaml sampling.upscale=2 sampling.upscaler=one.yaml": "pip install span",
        "compose layout=one.yaml sampling.upscale_strength=0.5": "ask for sampling.upscale=2 too",
        "compose layout=one.yaml sampling.detail=true method=merge": "method=merge has no regions",
        "sample concept=dog sampling.upscale=2": "unknown key sampling.upscale",
        "compose layout=one.yaml trainer.precision=fp16": "trainer.precision=fp16: expected",
        "compose layout=one.yaml trainer.num_nodes=0": "must be at least 1",
        "compose layout=one.yaml model.path=outputs": "has no model_index.json",
        "compose layout=one.yaml method=fast method.mask_refinement=true": "from the maps of the",
        "compose layout=one.yaml method.isolation_until=2": "expected a share of the steps",
        "sample concept=cat": "not trained yet: cat",
        "sample concept=dog width=100": "multiples of 64",
        "train concept=dog model.width=100": "model.width=100: must be a multiple of 64",
        "train concept=rex concept.images=outputs concept.class_word=dog": "no images",
        "train concept=dog training.sample_prompts=[grass]": "does not name the concept",
        "train concept=dog trainer.devices=two_and_a_half trainer.max_steps=2": "training.steps",
        "evaluate layout=one.yaml methods=fast,merge sampling.upscale=2": "method=merge has no",
        "evaluate layout=one.yaml cost=true sampling.detail=true": "cost=true knows no second",
        "evaluate layout=one.yaml judge=mini model.path=a/b model.name=mini": "holds no scorer",
        "evaluate layout=one.yaml judge=minni": "no such judge (nearest: mini), and no folder",
        "fuse concepts=dog,cat": "not trained yet: cat",
        "export cat format=kohya": "not trained yet: cat (looked in outputs/concepts/mini)",
        "layouts export format=xml": "format=xml: expected one of json",
        "evaluate layout=one.yaml methods=[] pictures.x=nowhere": "there is no such folder",
        "import one.yaml concept=dog": "is there already",
    }  # fmt: skip
    for (code, said), (command, wanted) in zip(told(folder, *cases), cases.items(), strict=True):
        assert code == 2 and wanted in said and said.count("\n") == 1, (command, said)


def test_concepts_are_looked_for_where_they_are_said_to_be(folder: Path) -> None:
    (folder / "outputs/concepts").rename(folder / "mine")
    commands = ("compose layout=one.yaml", "sample concept=dog", "evaluate layout=one.yaml")
    commands += ("fuse concepts=dog,cat",)
    said_of = dict(zip(commands, told(folder, *commands), strict=True))
    for command in commands:
        code, said = said_of[command]
        assert code == 2 and "(looked in outputs/concepts/mini)" in said, said
    there = told(
        folder, *(f"{command} concepts_dir=mine width=3" for command in commands[1:2]),
        "fuse concepts=dog,cat concepts_dir=mine", "import one.yaml concept=dog concepts_dir=mine",
    )  # fmt: skip
    assert "not trained" not in there[0][1] and "pixels" in there[0][1]
    assert (
        "not trained yet: cat (looked in mine/mini); run: toolkit train concept=cat" in there[1][1]
    )
    assert there[1][1].endswith("concepts_dir=mine\n")
    assert "mine/mini/dog.safetensors is there already" in there[2][1]


def test_a_sample_that_does_not_name_its_concept_is_told_of_its_prompt(folder: Path) -> None:
    ((code, said),) = told(folder, "sample concept=dog prompt=grass")
    assert code == 2
    assert said == "toolkit: prompt=grass does not name the concept: write <dog> in it\n"


def test_a_sample_of_a_wrong_size_is_told_of_the_size_and_of_no_layout(folder: Path) -> None:
    (_, odd), (_, huge) = told(
        folder, "sample concept=dog width=100", "sample concept=dog width=99999"
    )
    assert odd.startswith("toolkit: 100 x ") and "multiples of 64" in odd
    assert huge.startswith("toolkit: width must be above 0 and at most")


def test_help_of_everything_is_told_without_torch(folder: Path) -> None:
    commands = ["--help", "--version", *(f"{name} --help" for name in cli.COMMANDS)]
    answers = told(folder, *commands, "train --help model=sd15", "compose --help method=merge")
    assert [code for code, _ in answers] == [0] * len(answers)


def test_a_gpu_that_is_not_there_is_refused_before_anything_else(folder: Path) -> None:
    answers = told(
        folder,
        "compose layout=one.yaml trainer=gpu",
        "train concept=dog trainer=gpu",
        "sample concept=dog trainer=gpu",
        "evaluate layout=one.yaml methods=merge trainer=gpu",
        "fuse concepts=dog,cat trainer=gpu",
        "compose layout=one.yaml trainer.accelerator=cuda",
    )
    for code, said in answers:
        assert code == 2 and "there is no GPU here that can be used" in said


def test_where_there_may_be_a_gpu_lightning_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.sys, "platform", "darwin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    check_gpu({"accelerator": "gpu"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(InputError, match="no GPU here"):
        check_gpu({"accelerator": "gpu"})


def test_only_one_process_in_float32_is_known_without_lightning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert is_plain({"accelerator": "auto", "devices": 1})
    assert is_plain({"accelerator": "cpu", "devices": 1, "strategy": "auto"})
    for other in (
        {"accelerator": "gpu", "devices": 1},
        {"accelerator": "cpu", "devices": "auto"},
        {"accelerator": "cpu"},
        {"accelerator": "cpu", "devices": 1, "precision": "16-mixed"},
        {"accelerator": "cpu", "devices": 1, "max_time": "soon"},
    ):
        assert not is_plain(other)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_plain({"accelerator": "cpu", "devices": 1})


TRAIN = (
    "train concept=dog training.steps=1 training.sample_every_steps=0 trainer=cpu "
    "model.width=64 model.height=64"
)
COMPOSE = "compose layout=one.yaml method=prompt_only sampling.steps=1 trainer=cpu"
SAMPLE = "sample concept=dog sampling.steps=1 width=64 height=64 trainer=cpu"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a concept was trained, and pictures were made."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "one.yaml").write_text(LAYOUT)
    program = "import sys; from toolkit.cli import main\nfor a in sys.argv[1:]:\n main(a.split())"
    ended = subprocess.run(
        [sys.executable, "-c", program, TRAIN, COMPOSE, SAMPLE],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return folder


def test_what_is_done_already_is_told_without_torch(finished: Path) -> None:
    trained, composed, sampled = told(finished, TRAIN, COMPOSE, SAMPLE)
    assert trained[0] == composed[0] == sampled[0] == 0
    assert "dog.safetensors is already there, trained with these settings" in trained[1]
    assert "1 of 1 pictures are there already" in composed[1]
    assert "manifest.parquet" in composed[1]
    assert "1 of 1 pictures are there already" in sampled[1]


@pytest.mark.parametrize("what", ["picture", "record", "concept", "layout", "seeds"])
def test_what_is_stale_does_not_pass_as_done(
    what: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(shutil.copytree(finished, tmp_path / "here"))
    monkeypatch.chdir(here)
    typed = COMPOSE.split()[1:]
    assert composed_already(read_compose(typed)) == 0
    if what == "picture":
        picture = here / "outputs/compose/prompt_only/one/0.png"
        picture.write_bytes(picture.read_bytes() + b"\0")
    elif what == "record":
        (here / "outputs/compose/prompt_only/one/0.json").unlink()
    elif what == "concept":
        path = here / "outputs/concepts/mini/dog.safetensors"
        concept = load_concept(path)
        concept.embeddings[0] += 1
        save_concept(concept, path)
    elif what == "layout":
        (here / "one.yaml").write_text(LAYOUT.replace("grass", "sand"))
    else:
        typed.append("seeds=2")
    assert composed_already(read_compose(typed)) is None


def test_done_is_left_to_lightning_where_a_gpu_is_asked_for(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    monkeypatch.setattr(trainer, "_may_have_gpu", lambda: True)
    assert composed_already(read_compose([*COMPOSE.split()[1:-1], "trainer=gpu"])) is None
