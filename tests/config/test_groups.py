"""Which value holds when a file, a model's section and the person each give one."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from toolkit.config import read_compose, read_sample, read_train
from toolkit.config.lookup import SHIPPED, choices, find_config
from toolkit.errors import InputError
from toolkit.layout.mapping import layout_from_mapping
from toolkit.methods.lora_composer import PAPER


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory outside the clone."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def test_shipped_configs_and_folders_are_found_from_anywhere(elsewhere: Path) -> None:
    (config,) = read_train(["concept=dog"])
    assert config.concept.images == SHIPPED / "datasets" / "dog"
    assert config.model.name == "mini"
    assert Path(config.model.path).parts[-2:] == ("assets", "mini")
    assert (config.model.width, config.model.height, config.model.guidance_downscale) == (
        128,
        128,
        2,
    )
    assert config.output_dir == Path("outputs")


def test_the_working_directory_comes_first(elsewhere: Path) -> None:
    write(elsewhere / "configs/concept/dog.yaml", "{class_word: wolf, images: datasets/dog}")
    write(elsewhere / "datasets/dog/1.png", "")
    write(elsewhere / "configs/trainer/cpu.yaml", "{accelerator: cpu, max_time: 00:01}")
    write(elsewhere / "configs/layout/scene1.yaml", "")
    (config,) = read_train(["concept=dog", "trainer=cpu"])
    assert config.concept.class_word == "wolf"
    assert config.concept.images == elsewhere / "datasets" / "dog"
    assert config.trainer.arguments["max_time"] == "00:01"
    assert "devices" not in config.trainer.arguments
    assert find_config("layout", "scene1") == elsewhere / "configs/layout/scene1.yaml"
    assert "cat" in choices("concept")


def test_a_folder_of_ones_own_needs_no_yaml(elsewhere: Path) -> None:
    (elsewhere / "photos").mkdir()
    (config,) = read_train(["concept=rex", "concept.images=photos", "concept.class_word=dog"])
    assert (config.concept.name, config.concept.class_word) == ("rex", "dog")
    assert config.concept.images == elsewhere / "photos"


def test_a_model_brings_values_that_the_person_overrides(elsewhere: Path) -> None:
    write(
        elsewhere / "configs/model/own.yaml",
        "{path: owner/own, training: {steps: 7, rank: 2}, method: {preset: paper, top_share: 0.5},"
        " sampling: {steps: 9}}",
    )
    (training,) = read_train(["concept=dog", "model=own", "training.rank=8"])
    assert (training.training.steps, training.training.rank) == (7, 8)
    assert training.training.batch_size == 4
    composing = read_compose(["layout=scene1", "model=own", "method.top_share=0.1"])
    assert composing.method == replace(PAPER, top_share=0.1, name="lora_composer+top_share=0.1")
    assert composing.sampling.steps == 9
    assert composing.model.name == "own"


def test_a_methods_name_is_its_files(elsewhere: Path) -> None:
    write(elsewhere / "configs/method/no_fill.yaml", "{fill_loss: false}")
    config = read_compose(["layout=scene1", "method=no_fill"])
    assert config.method_name == "no_fill"
    assert not config.method.fill_loss


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("owner/anything-v4.0", "anything-v4.0"),
        ("{folder}/base", "base"),
        ("{folder}/base/", "base"),
        ("{folder}/one.safetensors", "one"),
    ],
)
def test_a_path_alone_names_the_model_and_starts_from_stable_diffusion(
    path: str, name: str, elsewhere: Path
) -> None:
    (elsewhere / "base").mkdir()
    (elsewhere / "one.safetensors").touch()
    (config,) = read_train(["concept=dog", f"model.path={path.format(folder=elsewhere)}"])
    assert config.model.name == name
    assert (config.model.width, config.model.guidance_downscale) == (512, 4)
    assert config.training.steps == 800


def test_a_group_beside_a_path_gives_the_other_values() -> None:
    (config,) = read_train(["concept=dog", "model=mini", "model.path=owner/other"])
    assert (config.model.name, config.model.path) == ("other", "owner/other")
    assert config.model.width == 128


def test_sampling_takes_the_bases_size_and_the_concept_by_default() -> None:
    config = read_sample(["concept=dog", "width=256"])
    assert (config.width, config.height, config.prompt) == (256, 128, "<dog>")


def test_slurm_takes_the_jobs_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NNODES", "3")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "8")
    arguments = read_compose(["layout=scene1", "trainer=slurm"]).trainer.arguments
    assert (arguments["num_nodes"], arguments["devices"]) == (3, 8)


@pytest.mark.parametrize("group", ["model", "trainer", "logger", "concept"])
def test_every_shipped_choice_is_a_valid_config(group: str) -> None:
    for name in choices(group):
        read_train(["concept=dog", f"{group}={name}"])


def test_every_shipped_method_is_a_valid_config() -> None:
    for name in choices("method"):
        assert read_compose(["layout=scene1", f"method={name}"]).method_name == name


def test_shipped_layouts_are_valid_and_use_shipped_concepts() -> None:
    for name in choices("layout"):
        layout = layout_from_mapping(yaml.safe_load(find_config("layout", name).read_text()), name)
        assert layout.name == name
        assert set(layout.concepts) <= set(choices("concept"))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ([], "lora_composer"),
        (["method.fill_loss=false"], "lora_composer+fill_loss=false"),
        (["method.fill_loss=true"], "lora_composer"),  # what it is anyway
        (["method=fast", "method.word_bias=0.5", "method.top_share=0.1"],
         "fast+top_share=0.1+word_bias=0.5"),
        (["method.preset=paper"], "lora_composer+preset=paper"),
        (["method.fill_loss=false", "method.name=mine"], "mine"),
        (["method=lora_switch", "method.period=2"], "lora_switch+period=2"),
    ],
)  # fmt: skip
def test_a_method_with_other_switches_has_a_folder_of_its_own(typed: list[str], name: str) -> None:
    assert read_compose(["layout=scene1", *typed]).method.name == name


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("method.fill_loss=false", "method=merge has no such key"),
        ("method.preset=paper", "method=merge has no such key"),
        ("method.fil_loss=false", "nearest: method.fill_loss"),
    ],
)
def test_a_key_that_a_method_does_not_have_is_refused(typed: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_compose(["layout=scene1", "method=merge", typed])
    assert caught.value.path in (typed.partition("=")[0], "")
