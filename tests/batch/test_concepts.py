"""Files that a layout names as its concepts."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from toolkit.backbones import Base, Part
from toolkit.batch.concepts import read_concept
from toolkit.errors import InputError


def test_a_lora_that_nothing_calls_is_to_be_imported(tiny_base: Base, tmp_path: Path) -> None:
    shapes = tiny_base.map_shapes(Part.UNET).items()
    path, (rows, columns) = next((path, shape) for path, shape in shapes if "to_q" in path)
    lora = {"lora_A": torch.ones(1, columns), "lora_B": torch.ones(rows, 1)}
    file = tmp_path / "sks.safetensors"
    save_file({f"unet.{path}.{side}.weight": value for side, value in lora.items()}, file)
    with pytest.raises(InputError) as refused:
        read_concept(str(file), file, tiny_base)
    assert f"run toolkit import {file} concept=sks trigger='...'" in str(refused.value)
    assert str(refused.value).endswith("and write concept: sks")
