"""Files for Stable Diffusion 2.x come in with every map in its place, and ours go out so."""

import copy
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from exported import check_in_pipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny_families import random_concept, write_sd2
from torch import Tensor

from toolkit.backbones import Base, Part, load_base
from toolkit.concept import Concept, LowRank, load_concept, save_concept
from toolkit.concept.formats.family import FAMILY_OF_WIDTH
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.formats.write import write_foreign
from toolkit.config import Format
from toolkit.errors import InputError

# Stable Diffusion 2.x's transformers: the number in its first code, and diffusers' name
TRANSFORMERS = {
    **{
        f"input_blocks_{1 + 3 * down + place}_1": f"down_blocks_{down}_attentions_{place}"
        for down in range(3)
        for place in range(2)
    },
    "middle_block_1": "mid_block_attentions_0",
    **{
        f"output_blocks_{3 * up + place}_1": f"up_blocks_{up}_attentions_{place}"
        for up in range(1, 4)
        for place in range(3)
    },
}
IN_BLOCK = [
    *(f"attn{n}_{to}" for n in (1, 2) for to in ("to_q", "to_k", "to_v", "to_out_0")),
    *("ff_net_0_proj", "ff_net_2"),
]
IN_TEXT_LAYER = [
    *(f"self_attn_{way}_proj" for way in ("q", "k", "v", "out")),
    *("mlp_fc1", "mlp_fc2"),
]
UNET_MAPS = r".*\.attentions\..*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|net\.2)"
TEXT_MAPS = r".*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd2(tmp_path_factory.mktemp("sd2"))


@pytest.fixture(scope="module")
def sd2(folder: Path) -> Base:
    return load_base(folder, "tiny2")


def kohya_names(numbered: bool) -> dict[str, tuple[Part, str]]:
    """What kohya's tools call every map, and which it is, its path flat."""
    found = {}
    for first, later in TRANSFORMERS.items():
        for own in ("proj_in", "proj_out", *(f"transformer_blocks_0_{name}" for name in IN_BLOCK)):
            found[f"lora_unet_{first if numbered else later}_{own}"] = (Part.UNET, f"{later}_{own}")
    for layer in range(3):
        for own in IN_TEXT_LAYER:
            flat = f"encoder_layers_{layer}_{own}"
            found[f"lora_te_text_model_{flat}"] = (Part.TEXT_ENCODER, flat)
    return found


def constants(base: Base, numbered: bool = False) -> tuple[dict[str, Tensor], Concept]:
    """A file in kohya's format that gives every map its own constant, and the concept meant."""
    paths = {
        (part, path.replace(".", "_")): path
        for part in base.parts
        for path in base.map_shapes(part)
    }
    tensors: dict[str, Tensor] = {}
    changes: dict[Part, dict[str, LowRank]] = {Part.UNET: {}, Part.TEXT_ENCODER: {}}
    for value, (name, (part, flat)) in zip(count(1), kohya_names(numbered).items(), strict=False):
        path = paths[part, flat]
        rows, columns = base.map_shapes(part)[path]
        pair = LowRank(torch.ones(1, columns), torch.full((rows, 1), float(value)))
        changes[part][path] = pair
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = pair.down, pair.up
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
    return tensors, without_tokens(base).with_changes(changes)


def without_tokens(base: Base, trigger: str = "sks") -> Concept:
    """A concept that is called by a word, and changes nothing yet."""
    none = {part: torch.zeros(0, *shape) for part, shape in base.embedding_shapes.items()}
    empty = Concept("sks", torch.zeros(0, 0, 0), (), {}, {}, trigger_words=trigger)
    return empty.with_tokens((), none)


def check_same(found: Concept, expected: Concept, atol: float = 1e-6) -> None:
    for part in (Part.UNET, Part.TEXT_ENCODER):
        own, changes = found.changes[part], expected.changes[part]
        assert own.keys() == changes.keys()
        for path, pair in changes.items():
            product = own[path].up.float() @ own[path].down.float()
            assert torch.allclose(product, pair.up @ pair.down, atol=atol), path


@pytest.mark.parametrize("numbered", [True, False])
def test_each_of_kohyas_maps_lands_on_its_own_place(
    numbered: bool, sd2: Base, tmp_path: Path
) -> None:
    tensors, expected = constants(sd2, numbered)
    assert len(expected.unet) == 16 * (10 + 2)
    save_file(tensors, tmp_path / "x.safetensors")
    check_same(read_foreign(tmp_path / "x.safetensors", "sks", sd2, trigger="sks"), expected)


def test_our_kohya_names_are_those_of_its_own_tools(
    sd2: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where 1.x has convolutions: 2.x is told by its text, which is 1024 wide in real ones."""
    monkeypatch.setitem(FAMILY_OF_WIDTH, 24, FAMILY_OF_WIDTH[1024])
    tensors, concept = constants(sd2)
    file = write_foreign(concept, Format.KOHYA, tmp_path / "x.safetensors").files[0]
    written = load_file(file)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensors[name]) for name in tensors)


def test_a_lora_by_diffusers(sd2: Base, tmp_path: Path) -> None:
    torch.manual_seed(3)
    networks = copy.deepcopy(sd2.parts)
    for part, network in networks.items():
        maps = UNET_MAPS if part is Part.UNET else TEXT_MAPS
        network.add_adapter(LoraConfig(r=4, lora_alpha=2, target_modules=maps))
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    layers = {part: get_peft_model_state_dict(network) for part, network in networks.items()}
    told = {"r": 4, "lora_alpha": 2}
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=layers[Part.UNET],
        text_encoder_lora_layers=layers[Part.TEXT_ENCODER],
        unet_lora_adapter_metadata=told,
        text_encoder_lora_adapter_metadata=told,
    )
    changes = {
        part: {
            path.removeprefix("text_model."): LowRank(
                layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach() / 2
            )
            for path, layer in network.named_modules()
            if hasattr(layer, "lora_A")
        }
        for part, network in networks.items()
    }
    assert len(changes[Part.UNET]) == 16 * 12 and len(changes[Part.TEXT_ENCODER]) == 3 * 6
    file = tmp_path / "pytorch_lora_weights.safetensors"
    read = read_foreign(file, "sks", sd2, trigger="sks")
    check_same(read, without_tokens(sd2).with_changes(changes))


def test_a_textual_inversion(sd2: Base, tmp_path: Path) -> None:
    vectors = torch.randn(3, 24)
    save_file({"emb_params": vectors}, tmp_path / "toy.safetensors")
    read = read_foreign(tmp_path / "toy.safetensors", "toy", sd2, "cat")
    assert read.token_names == ("<toy1>", "<toy2>", "<toy3>")
    assert torch.equal(read.embeddings, vectors[:, None].expand(3, 16, 24))
    save_file({"emb_params": torch.randn(3, 768)}, tmp_path / "other.safetensors")
    with pytest.raises(
        InputError, match="made for Stable Diffusion 1.x; tiny2 is a Stable Diffusion 2.x"
    ):
        read_foreign(tmp_path / "other.safetensors", "toy", sd2, "cat")


@pytest.mark.parametrize("format", [Format.DIFFUSERS, Format.KOHYA])
def test_plain_diffusers_makes_our_picture_of_what_we_export(
    format: Format, sd2: Base, folder: Path, tmp_path: Path
) -> None:
    changes = random_concept(sd2, "dog", 4).changes
    concept = replace(without_tokens(sd2, "dog").with_changes(changes), name="dog")
    save_concept(concept, tmp_path / "kept.safetensors", torch.float32)
    concept = load_concept(tmp_path / "kept.safetensors")
    file = write_foreign(concept, format, tmp_path / "dog.safetensors").files[0]
    check_in_pipeline(StableDiffusionPipeline.from_pretrained(folder), sd2, concept, file)
