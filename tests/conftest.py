import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny

from toolkit.backbones import Base, load_base
from toolkit.concept import Concept
from toolkit.concept.formats.mix_of_show import load_mix_of_show

REFERENCE = Path(__file__).parent / "reference"

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference model (16 cross-attention layers, random weights) with a small autoencoder."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    shutil.copytree(REFERENCE / "model", folder)
    torch.manual_seed(0)
    widths = (8, 8, 8, 8)
    AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    ).save_pretrained(folder / "vae")
    # diffusers counts the scale of a latent cell from this entry
    config = json.loads((folder / "vae" / "config.json").read_text())
    config["block_out_channels"] = list(widths)
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["diffusers", "AutoencoderTiny"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def tiny_base(tiny_base_folder: Path) -> Base:
    """A fresh copy in memory, so that a test may do to it what it wants."""
    return load_base(tiny_base_folder, "tiny")


@pytest.fixture(scope="session")
def reference_base() -> Base:
    """The tiny Stable Diffusion shaped model of the numeric cases."""
    return load_base(REFERENCE / "model", "reference", guidance_downscale=4)


@pytest.fixture(scope="session")
def concepts() -> dict[str, Concept]:
    """The numeric cases' concepts."""
    return {
        name: load_mix_of_show(REFERENCE / "concepts" / f"{name}.pth", name, class_word=name)
        for name in ("dog", "cat", "fox", "rock")
    }
