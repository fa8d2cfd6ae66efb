"""Files for Stable Diffusion XL come in with every map in its place, and ours go out so."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from exported import check_in_pipeline
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_families import random_concept, write_sd2, write_xl
from torch import Tensor, nn

from toolkit.backbones import Base, Part, load_base
from toolkit.backbones.unet.names import is_of_transformers
from toolkit.concept import Concept, LowRank, load_concept, save_concept
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.formats.write import write_foreign
from toolkit.config import Format
from toolkit.errors import InputError

REFERENCE = Path(__file__).parent.parent / "reference" / "concepts"
UNET_MAPS = r".*\.attentions\..*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|net\.2)"
TEXT_MAPS = r".*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"

# Stable Diffusion XL's transformers: the number in its first code, diffusers' name, its blocks
TRANSFORMERS = (
    ("input_blocks_4_1", "down_blocks_1_attentions_0", 2),
    ("input_blocks_5_1", "down_blocks_1_attentions_1", 2),
    ("input_blocks_7_1", "down_blocks_2_attentions_0", 10),
    ("input_blocks_8_1", "down_blocks_2_attentions_1", 10),
    ("middle_block_1", "mid_block_attentions_0", 10),
    ("output_blocks_0_1", "up_blocks_0_attentions_0", 10),
    ("output_blocks_1_1", "up_blocks_0_attentions_1", 10),
    ("output_blocks_2_1", "up_blocks_0_attentions_2", 10),
    ("output_blocks_3_1", "up_blocks_1_attentions_0", 2),
    ("output_blocks_4_1", "up_blocks_1_attentions_1", 2),
    ("output_blocks_5_1", "up_blocks_1_attentions_2", 2),
)
IN_BLOCK = [
    *(f"attn{n}_{to}" for n in (1, 2) for to in ("to_q", "to_k", "to_v", "to_out_0")),
    *("ff_net_0_proj", "ff_net_2"),
]
IN_TEXT_LAYER = [
    *(f"self_attn_{way}_proj" for way in ("q", "k", "v", "out")),
    *("mlp_fc1", "mlp_fc2"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xl(tmp_path_factory.mktemp("xl"))


@pytest.fixture(scope="module")
def xl(folder: Path) -> Base:
    return load_base(folder, "tinyxl")


@pytest.fixture(scope="module")
def sd2(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(write_sd2(tmp_path_factory.mktemp("sd2")), "tiny2")


def kohya_names(numbered: bool) -> Iterator[tuple[Part, str, str]]:
    """Every map of a Stable Diffusion XL: its part, its path flat, and what kohya's tools say."""
    for first, later, depth in TRANSFORMERS:
        inside = ["proj_in", "proj_out"]
        inside += [f"transformer_blocks_{n}_{own}" for n in range(depth) for own in IN_BLOCK]
        for own in inside:
            yield Part.UNET, f"{later}_{own}", f"lora_unet_{first if numbered else later}_{own}"
    for part, prefix in ((Part.TEXT_ENCODER, "lora_te1"), (Part.TEXT_ENCODER_2, "lora_te2")):
        for layer in range(3):
            for own in IN_TEXT_LAYER:
                flat = f"encoder_layers_{layer}_{own}"
                yield part, flat, f"{prefix}_text_model_{flat}"


def constants(base: Base, numbered: bool = True) -> tuple[dict[str, Tensor], Concept]:
    """A file in kohya's format that gives every map its own constant, and the concept meant."""
    paths = {
        (part, path.replace(".", "_")): path
        for part in base.parts
        for path in base.map_shapes(part)
    }
    tensors: dict[str, Tensor] = {}
    changes: dict[Part, dict[str, LowRank]] = {part: {} for part in Part}
    for value, (part, flat, name) in zip(count(1), kohya_names(numbered), strict=False):
        path = paths[part, flat]
        rows, columns = base.map_shapes(part)[path]
        pair = LowRank(torch.ones(1, columns), torch.full((rows, 1), float(value)))
        changes[part][path] = pair
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = pair.down, pair.up
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
    return tensors, plain(base, trigger="sks").with_changes(changes)


def plain(base: Base, trigger: str) -> Concept:
    """A concept without tokens that changes nothing yet."""
    none = {part: torch.zeros(0, *shape) for part, shape in base.embedding_shapes.items()}
    empty = Concept("sks", torch.zeros(0, 0, 0), (), {}, {}, trigger_words=trigger)
    return empty.with_tokens((), none)


def check_same(found: Concept, expected: Concept, atol: float = 1e-6) -> None:
    for part, changes in expected.changes.items():
        own = found.changes[part]
        assert own.keys() == changes.keys()
        for path, pair in changes.items():
            product = own[path].up.float() @ own[path].down.float()
            assert torch.allclose(product, pair.up @ pair.down, atol=atol), path


def with_lora(base: Base, rank: int, alpha: int) -> dict[Part, nn.Module]:
    """Copies of the base's networks with a random PEFT LoRA on every map."""
    torch.manual_seed(3)
    networks = copy.deepcopy(base.parts)
    for part, network in networks.items():
        maps = UNET_MAPS if part is Part.UNET else TEXT_MAPS
        network.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=maps))
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return networks


def injected(base: Base, networks: dict[Part, nn.Module]) -> Concept:
    """What injected PEFT LoRAs add, scaled."""
    return plain(base, trigger="sks").with_changes(
        {
            part: {
                path.removeprefix("text_model."): LowRank(
                    next(iter(layer.lora_A.values())).weight.detach(),
                    next(iter(layer.lora_B.values())).weight.detach()
                    * next(iter(layer.scaling.values())),
                )
                for path, layer in network.named_modules()
                if hasattr(layer, "lora_A")
            }
            for part, network in networks.items()
        }
    )


@pytest.mark.parametrize("numbered", [True, False])
def test_each_of_kohyas_maps_lands_on_its_own_place(
    numbered: bool, xl: Base, tmp_path: Path
) -> None:
    tensors, expected = constants(xl, numbered)
    in_blocks = [path for path in expected.unet if ".transformer_blocks." in path]
    assert len(in_blocks) == 70 * 10 and len(expected.unet) == 70 * 10 + 11 * 2
    for part, changes in expected.changes.items():
        linear = set(xl.map_shapes(part))
        if part is Part.UNET:
            linear = set(filter(is_of_transformers, linear))
        assert changes.keys() == linear - {"text_projection"}, "the base has no other maps"
    save_file(tensors, tmp_path / "x.safetensors")
    check_same(read_foreign(tmp_path / "x.safetensors", "sks", xl, trigger="sks"), expected)


@pytest.mark.parametrize("format", [Format.DIFFUSERS, Format.KOHYA])
def test_plain_diffusers_puts_each_of_our_maps_in_its_own_place(
    format: Format, xl: Base, folder: Path, tmp_path: Path
) -> None:
    expected = replace(constants(xl)[1], scale=0.5)
    file = write_foreign(expected, format, tmp_path / "x.safetensors").files[0]
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    pipeline.load_lora_weights(file)
    parts = {part: getattr(pipeline, part) for part in Part}
    halved = {
        part: {path: pair.scaled(0.5) for path, pair in changes.items()}
        for part, changes in expected.changes.items()
    }
    check_same(injected(xl, parts), expected.with_changes(halved))


def test_our_kohya_names_are_those_of_its_own_tools(xl: Base, tmp_path: Path) -> None:
    tensors, concept = constants(xl)
    file = write_foreign(concept, Format.KOHYA, tmp_path / "x.safetensors").files[0]
    written = load_file(file)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensors[name]) for name in tensors)


def test_a_lora_by_diffusers(xl: Base, tmp_path: Path) -> None:
    networks = with_lora(xl, rank=4, alpha=2)
    layers = {part: get_peft_model_state_dict(network) for part, network in networks.items()}
    told = {"r": 4, "lora_alpha": 2}
    StableDiffusionXLPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=layers[Part.UNET],
        text_encoder_lora_layers=layers[Part.TEXT_ENCODER],
        text_encoder_2_lora_layers=layers[Part.TEXT_ENCODER_2],
        unet_lora_adapter_metadata=told,
        text_encoder_lora_adapter_metadata=told,
        text_encoder_2_lora_adapter_metadata=told,
    )
    file = tmp_path / "pytorch_lora_weights.safetensors"
    check_same(read_foreign(file, "sks", xl, trigger="sks"), injected(xl, networks))


def test_a_lora_that_diffusers_renamed_for_kohyas_tools(xl: Base, tmp_path: Path) -> None:
    networks = with_lora(xl, rank=4, alpha=4)
    named = {
        f"base_model.model.{part}.{key}": tensor
        for part, network in networks.items()
        for key, tensor in get_peft_model_state_dict(network).items()
    }
    tensors = {
        key.replace("base_model_model_", ""): tensor.contiguous().float()
        for key, tensor in convert_state_dict_to_kohya(named).items()
    }
    tensors |= {key: torch.tensor(2.0) for key in tensors if key.endswith(".alpha")}
    prefixes = {key.split("_")[1] for key in tensors}
    assert prefixes == {"unet", "te1", "te2"}
    save_file(tensors, tmp_path / "x.safetensors")
    concept = injected(xl, networks)
    halved = {
        part: {path: pair.scaled(0.5) for path, pair in changes.items()}
        for part, changes in concept.changes.items()
    }
    read = read_foreign(tmp_path / "x.safetensors", "sks", xl, trigger="sks")
    check_same(read, concept.with_changes(halved))


def test_a_lora_by_peft(xl: Base, tmp_path: Path) -> None:
    torch.manual_seed(5)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=UNET_MAPS, init_lora_weights=False)
    model = get_peft_model(copy.deepcopy(xl.unet), config)
    model.save_pretrained(tmp_path)
    read = read_foreign(tmp_path / "adapter_model.safetensors", "sks", xl, trigger="sks")
    check_same(read, injected(xl, {Part.UNET: model.base_model.model}), atol=1e-5)


def test_a_lora_that_does_not_say_which_text_encoder_it_is_of_is_refused(
    xl: Base, tmp_path: Path
) -> None:
    config = LoraConfig(r=4, target_modules=TEXT_MAPS, init_lora_weights=False)
    get_peft_model(copy.deepcopy(xl.text_encoder_2), config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="put text_encoder or text_encoder_2 before it"):
        read_foreign(tmp_path / "adapter_model.safetensors", "sks", xl, trigger="sks")


@pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_a_textual_inversion(names: tuple[str, str], xl: Base, tmp_path: Path) -> None:
    first, second = torch.randn(3, 16), torch.randn(3, 24)
    save_file(dict(zip(names, (first, second), strict=True)), tmp_path / "toy.safetensors")
    read = read_foreign(tmp_path / "toy.safetensors", "toy", xl, "cat")
    assert read.token_names == ("<toy1>", "<toy2>", "<toy3>")
    assert torch.equal(read.embeddings, first[:, None].expand(3, 11, 16))
    assert torch.equal(read.embeddings_2, second[:, None].expand(3, 11, 24))


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"clip_l": torch.ones(1, 16)}, "lacks the vectors clip_g"),
        ({"clip_l": torch.ones(1, 16), "clip_g": torch.ones(2, 24)}, "1 and 2 vectors"),
        ({"clip_l": torch.ones(1, 16), "clip_g": torch.ones(1, 1280)}, "encoder 2 are 1280 wide"),
    ],
)
def test_a_textual_inversion_that_does_not_fit_is_refused(
    tensors: dict[str, Tensor], reason: str, xl: Base, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=reason):
        read_foreign(tmp_path / "x.safetensors", "toy", xl)


@pytest.mark.parametrize("format", [Format.DIFFUSERS, Format.KOHYA])
def test_what_goes_out_comes_in_again(format: Format, xl: Base, tmp_path: Path) -> None:
    dog = random_concept(xl, "dog", 0)
    written = write_foreign(dog, format, tmp_path / "out.safetensors")
    assert "one embedding for all 11 layers" in written.lost
    read = read_foreign(written.files[0], "rex", xl, "dog")
    assert read.token_names == ("<rex1>", "<rex2>")
    check_same(read, dog)
    for part, own in dog.token_embeddings.items():
        mean = own.mean(dim=1, keepdim=True).expand_as(own)
        assert torch.allclose(read.token_embeddings[part], mean)


def test_mix_of_show_has_no_place_for_two_text_encoders(xl: Base, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Stable Diffusion XL.*diffusers or kohya"):
        write_foreign(random_concept(xl, "dog", 0), Format.MIX_OF_SHOW, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("format", [Format.DIFFUSERS, Format.KOHYA])
def test_plain_diffusers_makes_our_picture_of_what_we_export(
    format: Format, xl: Base, folder: Path, tmp_path: Path
) -> None:
    changes = dict(random_concept(xl, "dog", 4).changes)
    for part, path in (
        (Part.UNET, "mid_block.attentions.0.proj_in"),
        (Part.TEXT_ENCODER_2, "text_projection"),
    ):
        rows, columns = xl.map_shapes(part)[path]
        pair = LowRank(torch.randn(2, columns) / 4, torch.randn(rows, 2) / 4)
        changes[part] = {**changes[part], path: pair}
    concept = replace(plain(xl, trigger="dog").with_changes(changes), name="dog")
    save_concept(concept, tmp_path / "kept.safetensors", torch.float32)
    concept = load_concept(tmp_path / "kept.safetensors")
    file = write_foreign(concept, format, tmp_path / "dog.safetensors").files[0]
    check_same(read_foreign(file, "dog", xl, trigger="dog"), concept)
    check_in_pipeline(StableDiffusionXLPipeline.from_pretrained(folder), xl, concept, file)


def test_a_change_of_the_text_projection_alone_moves_the_pooled_text(
    xl: Base, tmp_path: Path
) -> None:
    rows, columns = xl.map_shapes(Part.TEXT_ENCODER_2)["text_projection"]
    tensors = {
        "lora_te2_text_projection.lora_down.weight": torch.arange(columns)[None] / columns,
        "lora_te2_text_projection.lora_up.weight": torch.ones(rows, 1),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    read = read_foreign(tmp_path / "x.safetensors", "sks", xl, trigger="sks")
    prompts = [xl.tokenise("a dog")]
    before = xl.encode_prompts(prompts)
    with xl.changed_text({Part.TEXT_ENCODER_2: read.text_encoder_2}):
        after = xl.encode_prompts(prompts)
    assert torch.equal(before.hidden, after.hidden)
    moved = after.pooled - before.pooled
    assert moved.abs().max() > 1e-3 and torch.allclose(moved, moved[:, :1].expand_as(moved))


XL, SD1, SD2 = "Stable Diffusion XL", "Stable Diffusion 1.x", "Stable Diffusion 2.x"


def pair(name: str, columns: int) -> dict[str, Tensor]:
    return {
        f"{name}.lora_down.weight": torch.ones(1, columns),
        f"{name}.lora_up.weight": torch.ones(640, 1),
    }


@pytest.mark.parametrize(
    ("tensors", "made_for"),
    [
        (pair("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k", 768), SD1),
        (pair("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k", 1024), SD2),
        (pair("lora_unet_down_blocks_0_attentions_0_proj_in", 320), f"{SD1} or {SD2}"),
        (pair("lora_te_text_model_encoder_layers_0_mlp_fc1", 768), f"{SD1} or {SD2}"),
        ({"emb_params": torch.ones(1, 768)}, SD1),
        ({"emb_params": torch.ones(1, 1024)}, SD2),
    ],
)
def test_a_file_for_another_family_is_refused_with_both_names(
    tensors: dict[str, Tensor], made_for: str, xl: Base, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=f"made for {made_for}; tinyxl is a {XL}$"):
        read_foreign(tmp_path / "x.safetensors", "x", xl, trigger="x")


def test_files_for_xl_are_refused_on_other_families_with_both_names(
    xl: Base, sd2: Base, tiny_base: Base, tmp_path: Path
) -> None:
    tensors, concept = constants(xl)
    numbered, middle, words, own = (tmp_path / f"{n}.safetensors" for n in range(4))
    save_file({name: own for name, own in tensors.items() if "_te" not in name}, numbered)
    narrow = pair("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k", 2048)
    save_file(narrow, middle)
    save_file({"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}, words)
    save_concept(concept, own)
    for base, family in ((tiny_base, SD1), (sd2, SD2)):
        for path in (numbered, middle, words, own):
            with pytest.raises(InputError, match=f"made for {XL}; {base.name} is a {family}$"):
                read_foreign(path, "x", base, trigger="x")


def test_mix_of_shows_files_are_refused_on_xl_and_2_with_both_names(
    xl: Base, sd2: Base, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"made for {SD1}.*; tinyxl is a {XL}$"):
        read_foreign(REFERENCE / "dog.pth", "dog", xl)
    key = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    unet = {f"{key}.lora_{side}.weight": torch.ones(768, 768) for side in ("down", "up")}
    words = {"<dog1>": torch.ones(16, 768)}
    torch.save({"params": {"unet": unet, "new_concept_embedding": words}}, tmp_path / "dog.pth")
    with pytest.raises(InputError, match=f"made for {SD1}; tiny2 is a {SD2}$"):
        read_foreign(tmp_path / "dog.pth", "dog", sd2)


@pytest.mark.parametrize(("width", "dimensions", "told"), [(768, 4, "sd_v1"), (1024, 2, "sd_v2")])
def test_projections_go_out_as_their_family_has_them(
    width: int, dimensions: int, told: str, tmp_path: Path
) -> None:
    changes = {"mid_block.attentions.0.proj_in": LowRank(torch.ones(1, 8), torch.ones(8, 1))}
    concept = Concept("x", torch.zeros(0, 16, width), (), changes, {}, trigger_words="x")
    file = write_foreign(concept, Format.KOHYA, tmp_path / "x.safetensors").files[0]
    down = load_file(file)["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"]
    assert down.ndim == dimensions
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata()["ss_base_model_version"] == told
