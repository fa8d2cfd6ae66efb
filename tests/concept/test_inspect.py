"""What is said of files without loading them, and what exports say of themselves."""

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import load_file

from toolkit import cli
from toolkit.concept import Concept, save_concept
from toolkit.concept.formats.described import describe_files, facts_of
from toolkit.concept.formats.write import write_foreign
from toolkit.concept.inspected import inspect_file
from toolkit.concept.listed import concepts_in
from toolkit.errors import InputError

CASES = Path(__file__).parent.parent / "cases"


def trained(concepts: dict[str, Concept]) -> Concept:
    concept = concepts["dog"]
    settings = {"steps": "40", "width": "64", "height": "64", "seed": "3", "batch_size": "2"}
    return Concept(**{**vars(concept), "training": settings, "base_name": "tiny"})


def pair(name: str, out: int, inputs: int, rank: int = 8) -> dict[str, np.ndarray]:
    return {
        f"{name}.lora_down.weight": np.ones((rank, inputs), dtype=np.float16),
        f"{name}.lora_up.weight": np.ones((out, rank), dtype=np.float16),
        f"{name}.alpha": np.float32(rank)[None],
    }


def test_an_export_says_what_it_is_and_its_tensors_stay(
    concepts: dict[str, Concept], tmp_path: Path
) -> None:
    concept = trained(concepts)
    written = write_foreign(concept, "kohya", tmp_path / "dog.safetensors")
    before = load_file(written.files[0])
    picture = Image.new("RGB", (600, 300), "red")
    describe_files(written.files, concept, picture)
    after = load_file(written.files[0])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with safe_open(written.files[0], framework="np") as file:
        said = file.metadata()
    assert said["modelspec.trigger_phrase"] == " ".join(concept.token_names)
    assert next(iter(json.loads(said["ss_tag_frequency"])["dog"])) == concept.call
    assert said["ss_steps"] == "40" and said["ss_seed"] == "3"
    assert said["modelspec.resolution"] == "64x64" and said["ss_sd_model_name"] == "tiny"
    assert said["ss_network_module"] == "networks.lora", "what the format says stays"
    assert "modelspec.architecture" not in said, "this base is no Stable Diffusion 1"
    kind, _, content = said["modelspec.thumbnail"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (256, 128)


def test_what_is_not_known_is_not_said(concepts: dict[str, Concept]) -> None:
    imported = facts_of(concepts["dog"], picture=None)
    assert not {"ss_steps", "modelspec.resolution", "modelspec.thumbnail"} & set(imported)


def test_the_hash_is_that_of_the_tensors(concepts: dict[str, Concept], tmp_path: Path) -> None:
    import hashlib

    (path,) = write_foreign(concepts["dog"], "kohya", tmp_path / "a.safetensors").files[:1]
    content = path.read_bytes()
    tensors = content[8 + int.from_bytes(content[:8], "little") :]
    describe_files([path], concepts["dog"], None)
    with safe_open(path, framework="np") as file:
        assert (
            file.metadata()["modelspec.hash_sha256"] == "0x" + hashlib.sha256(tensors).hexdigest()
        )


def test_a_concept_file_is_told(concepts: dict[str, Concept], tmp_path: Path) -> None:
    save_concept(trained(concepts), tmp_path / "dog.safetensors")
    said = dict(inspect_file(tmp_path / "dog.safetensors"))
    assert said["is"] == "a concept of this toolkit, ED-LoRA" and said["base"] == "tiny"
    assert said["called by"] == "<dog> (dog)" and said["trained"] == "40 steps at 64 x 64"
    assert "cross-attention" in said["changes"] and "rank" in said["changes"]
    assert said["embeddings"].startswith("2 words, 16 layers")


@pytest.mark.parametrize(
    ("width", "base"),
    [(768, "Stable Diffusion 1.x"), (1024, "Stable Diffusion 2.x"), (2048, "XL"), (32, "32 wide")],
)
def test_the_base_is_told_by_the_width_of_the_text(width: int, base: str, tmp_path: Path) -> None:
    block = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0"
    tensors = pair(f"{block}_attn2_to_k", 320, width) | pair(f"{block}_attn1_to_q", 320, 320)
    tags = {"10_sks": {"sks dog": 10, "grass": 3}}
    path = tmp_path / "style.safetensors"
    save_file(tensors, path, {"ss_tag_frequency": json.dumps(tags), "ss_steps": "900"})
    said = dict(inspect_file(path))
    assert said["is"] == "LoRA, as kohya names it" and base in said["base"]
    assert said["called by"].endswith("sks dog (10), grass (3)") and said["steps"] == "900"
    assert said["changes"] == "1 map of self-attention, 1 map of cross-attention; rank 8"


def test_other_kinds_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file(pair(module, 32, 768) | {f"{module}.dora_scale": np.ones((32, 1))}, path)
    assert dict(inspect_file(path))["is"].startswith("DoRA")
    save_file({f"{module}.lokr_w1": np.ones((4, 4)), f"{module}.lokr_w2": np.ones((8, 8))}, path)
    said = dict(inspect_file(path))
    assert said["is"].startswith("LoKr") and "1 map of cross-attention" in said["changes"]
    save_file({"emb_params": np.ones((3, 768))}, path)
    said = dict(inspect_file(path))
    assert said["is"] == "a textual inversion" and said["holds"] == "3 vectors of 768 values"
    assert said["base"] == "Stable Diffusion 1.x"
    flux = dict(inspect_file(CASES / "lora_other_family_message/flux_kohya.safetensors"))
    assert flux["base"] == "Flux"
    whole = dict(inspect_file(CASES / "not_a_lora_messages/full_model.safetensors"))
    assert whole["is"] == "a whole Stable Diffusion model"


def test_a_file_that_mixes_kinds_says_so(tmp_path: Path) -> None:
    path, block = tmp_path / "a.safetensors", "lora_unet_down_blocks_0_resnets_0"
    attention = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"{block}_conv1.lora_down.weight": np.ones((4, 8, 3, 3)),
        f"{block}_conv1.lora_up.weight": np.ones((8, 4, 1, 1)),
        f"{block}_norm1.w_norm": np.ones(8),
        f"{block}_time_emb_proj.diff": np.ones((8, 32)),
        f"{attention}.hada_w1_a": np.ones((8, 2)),
    }
    save_file(tensors, path)
    said = dict(inspect_file(path))
    assert said["is"] == "LoCon and LoHa and full differences and norms, as kohya names it"
    for part in ("convolutions", "norms", "the timestep's part", "self-attention"):
        assert f"1 map of {part}" in said["changes"]
    assert said["changes"].endswith("; rank 4")


def test_files_without_a_header_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        inspect_file(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="toolkit import reads others"):
        inspect_file(Path(__file__).parent.parent / "reference/concepts/dog.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(InputError, match="not a whole"):
        inspect_file(tmp_path / "cut.safetensors")


def test_concepts_are_listed_with_what_is_not_whole(
    concepts: dict[str, Concept], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "concepts/tiny"
    save_concept(trained(concepts), folder / "dog.safetensors")
    save_concept(concepts["cat"], folder / "cat.safetensors")
    (folder / "gone.safetensors").write_bytes(b"half")
    grids = tmp_path / "runs/train/tiny/dog/samples"
    grids.mkdir(parents=True)
    for step in (20, 40):
        (grids / f"step_{step:06}.png").touch()
    cat, dog, gone = concepts_in(tmp_path / "concepts", tmp_path / "runs")
    assert dog[:6] == ("dog", "tiny", "ED-LoRA, trained", "4", "40", "<dog>")
    assert dog[-1].endswith("step_000040.png")
    assert cat[2] == "ED-LoRA, imported" and cat[-1] == "-" and gone[2] == "damaged"
    assert cli.main(["concepts", f"output_dir={tmp_path}"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4 and shown[0].startswith("concept  base  kind")
    assert cli.main(["concepts", f"output_dir={tmp_path / 'empty'}"]) == 0
    assert "no concepts in" in capsys.readouterr().out


def test_both_commands_need_no_torch(concepts: dict[str, Concept], tmp_path: Path) -> None:
    path = tmp_path / "concepts/tiny/dog.safetensors"
    save_concept(trained(concepts), path)
    program = (
        "import sys; from toolkit.cli import main; code = main(sys.argv[1:]);"
        " assert not {'torch', 'lightning', 'diffusers'} & set(sys.modules); sys.exit(code)"
    )
    for arguments in (["inspect", str(path)], ["concepts", f"output_dir={tmp_path}"]):
        ended = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True, text=True, env=os.environ,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert "dog" in ended.stdout
