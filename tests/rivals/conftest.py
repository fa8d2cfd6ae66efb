"""The rivals' numeric cases: each folder is what its case.json says it is.

`TOOLKIT_RIVALS_DIR` names another folder of cases of the same forms.
"""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

OWN = Path(__file__).parent / "reference"
RIVALS = Path(os.environ.get("TOOLKIT_RIVALS_DIR", OWN))

GRADIENT_FUSION = "gradient_fusion"
KINDS = {
    GRADIENT_FUSION: lambda facts: "picked" in facts,
    "lora_switch": lambda facts: facts.get("method") == "switch",
    "lora_composite": lambda facts: facts.get("method") == "composite",
    "cones2_training": lambda facts: "templates" in facts,
    "cones2_sampling": lambda facts: "guidance_sigmas" in facts,
    "mix_of_show_regional": lambda facts: "regions" in facts,
}
"""By the name that a test asks for its cases with, as `gradient_fusion_case`."""


@dataclass(frozen=True)
class Case:
    """One folder: `facts` is its case.json, `tensors` what the rival's own code computed."""

    folder: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.folder / "case.json").read_text())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.folder / "tensors.safetensors")

    @cached_property
    def fused(self) -> dict[str, Tensor]:
        """All fused weights: its own, or those of a gradient_fusion folder beside it."""
        beside = [self.folder, RIVALS / GRADIENT_FUSION, OWN / GRADIENT_FUSION]
        files = (folder / "fused.safetensors" for folder in beside)
        return load_file(next(file for file in files if file.is_file()))

    @property
    def kind(self) -> str | None:
        found = [kind for kind, fits in KINDS.items() if fits(self.facts)]
        return found[0] if len(found) == 1 else None


CASES = [Case(file.parent) for file in sorted(RIVALS.glob("*/case.json"))]


@pytest.fixture
def cases() -> list[Case]:
    return CASES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for kind in KINDS:
        name = f"{kind}_case"
        if name in metafunc.fixturenames:
            own = [case for case in CASES if case.kind == kind]
            metafunc.parametrize(name, own, ids=[case.folder.name for case in own], scope="module")
