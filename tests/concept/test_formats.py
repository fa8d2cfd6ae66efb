"""Concepts of other programs come in as they are meant, and ours go out as others read them."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from toolkit.backbones import Base
from toolkit.backbones.low_rank import linear_maps
from toolkit.backbones.placed import changes_applied
from toolkit.backbones.unet.conditioning import POSITIVE
from toolkit.backbones.unet.inputs import pass_inputs
from toolkit.backbones.unet.rows import Batch
from toolkit.cli import main
from toolkit.concept import Concept, LowRank, load_concept
from toolkit.concept.file import save_concept
from toolkit.concept.formats.mix_of_show import load_mix_of_show
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.formats.write import write_foreign
from toolkit.config import Format, read_sample
from toolkit.errors import InputError
from toolkit.layout.layout import Layout, Region
from toolkit.methods.lora_composer import PUBLISHED
from toolkit.sampling import compose, initial_noise

REFERENCE = Path(__file__).parent.parent / "reference" / "concepts"
ALL_UNET_MAPS = r".*\.(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2)"
TEXT_MAPS = r".*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
BLOCK = "down_blocks.0.attentions.0"


@pytest.fixture
def dog() -> Concept:
    return load_mix_of_show(REFERENCE / "dog.pth", "dog", class_word="dog")


def product(pair: LowRank) -> torch.Tensor:
    return pair.up.float() @ pair.down.float()


def same(found: Mapping[str, LowRank], expected: Mapping[str, LowRank], atol: float = 1e-6) -> bool:
    """Whether the products are the same, whichever half holds the scale."""
    return found.keys() == expected.keys() and all(
        torch.allclose(product(found[path]), product(pair), atol=atol)
        for path, pair in expected.items()
    )


def with_lora(base: Base, rank: int, alpha: int) -> Base:
    """A copy of the base with a random PEFT LoRA on every map that LoRAs are put on."""
    torch.manual_seed(3)
    unet, text_encoder = copy.deepcopy((base.unet, base.text_encoder))
    for module, maps in ((unet, ALL_UNET_MAPS), (text_encoder, TEXT_MAPS)):
        module.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=maps))
        for name, weight in module.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return replace(base, unet=unet, text_encoder=text_encoder)


def changes_of(module: torch.nn.Module) -> dict[str, LowRank]:
    """What an injected PEFT LoRA adds, scaled."""
    return {
        path.removeprefix("text_model."): LowRank(
            layer.lora_A["default"].weight.detach().flatten(1),
            layer.lora_B["default"].weight.detach().flatten(1) * layer.scaling["default"],
        )
        for path, layer in module.named_modules()
        if hasattr(layer, "lora_A")
    }


@pytest.mark.parametrize("format", Format)
def test_what_goes_out_comes_in_again(
    format: Format, dog: Concept, tiny_base: Base, tmp_path: Path
) -> None:
    dog = replace(dog, scale=0.8)
    suffix = ".pth" if format is Format.MIX_OF_SHOW else ".safetensors"
    written = write_foreign(dog, format, tmp_path / f"out{suffix}")
    inversion = written.files[1] if len(written.files) > 1 else None
    read = read_foreign(written.files[0], "rex", tiny_base, "dog", embedding=inversion)
    assert read.token_names == ("<rex1>", "<rex2>")
    assert same(read.unet, {path: pair.scaled(0.8) for path, pair in dog.unet.items()})
    assert same(read.text_encoder, {p: pair.scaled(0.8) for p, pair in dog.text_encoder.items()})
    if format is Format.MIX_OF_SHOW:
        assert torch.equal(read.embeddings, dog.embeddings.float()) and not written.lost
    else:
        mean = dog.embeddings.float().mean(dim=1, keepdim=True)
        assert torch.allclose(read.embeddings, mean.expand_as(read.embeddings))
        assert "one embedding for all 16 layers" in written.lost


def test_our_own_file_comes_in_under_another_name(
    dog: Concept, tiny_base: Base, tmp_path: Path
) -> None:
    save_concept(dog, tmp_path / "dog.safetensors", torch.float32)
    read = read_foreign(tmp_path / "dog.safetensors", "rex", tiny_base)
    assert read.expand("<rex>") == "<rex1> <rex2>" and same(read.unet, dog.unet)


def test_a_lora_by_diffusers(tiny_base: Base, tmp_path: Path) -> None:
    trained = with_lora(tiny_base, rank=4, alpha=2)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(trained.unet),
        text_encoder_lora_layers=get_peft_model_state_dict(trained.text_encoder),
        unet_lora_adapter_metadata={"r": 4, "lora_alpha": 2},
        text_encoder_lora_adapter_metadata={"r": 4, "lora_alpha": 2},
    )
    file = tmp_path / "pytorch_lora_weights.safetensors"
    read = read_foreign(file, "sks", tiny_base, "dog", trigger="sks dog")
    assert same(read.unet, changes_of(trained.unet))
    assert same(read.text_encoder, changes_of(trained.text_encoder))
    assert read.expand("a <sks>") == "a sks dog"


def test_a_lora_by_peft(tiny_base: Base, tmp_path: Path) -> None:
    torch.manual_seed(5)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=ALL_UNET_MAPS, init_lora_weights=False)
    model = get_peft_model(copy.deepcopy(tiny_base.unet), config)
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    read = read_foreign(file, "sks", tiny_base, trigger="sks")
    assert same(read.unet, changes_of(model.base_model.model), atol=1e-5)


@pytest.mark.parametrize("alpha", [1.0, 4.0])
def test_a_lora_in_kohyas_format(alpha: float, tiny_base: Base, tmp_path: Path) -> None:
    trained = with_lora(tiny_base, rank=4, alpha=4)
    parts = {"unet": trained.unet, "text_encoder": trained.text_encoder}
    named = {
        f"base_model.model.{part}.{key}": tensor
        for part, module in parts.items()
        for key, tensor in get_peft_model_state_dict(module).items()
    }
    prefix = "base_model_model_"
    tensors = {
        key.replace(prefix, "").replace("lora_te1_", "lora_te_"): tensor.contiguous().float()
        for key, tensor in convert_state_dict_to_kohya(named).items()
    }
    tensors |= {key: torch.tensor(alpha) for key in tensors if key.endswith(".alpha")}
    assert f"lora_unet_{BLOCK.replace('.', '_')}_proj_in.lora_down.weight" in tensors
    assert any(key.startswith("lora_te_") for key in tensors)
    save_file(tensors, tmp_path / "lora.safetensors")
    read = read_foreign(tmp_path / "lora.safetensors", "sks", tiny_base, trigger="sks")
    for found, module in ((read.unet, trained.unet), (read.text_encoder, trained.text_encoder)):
        expected = {path: pair.scaled(alpha / 4) for path, pair in changes_of(module).items()}
        assert same(found, expected)


def test_a_lora_with_diffusers_first_keys(dog: Concept, tiny_base: Base, tmp_path: Path) -> None:
    tensors = {}
    for prefix, changes in (("unet", dog.unet), ("text_encoder.text_model", dog.text_encoder)):
        for path, pair in changes.items():
            module, _, last = path.removesuffix(".0").rpartition(".")
            older = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
            processor = ".processor" if prefix == "unet" else ""
            name = f"{prefix}.{module}{processor}.{older.get(last, last)}_lora"
            tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = pair.down, pair.up
    save_file(tensors, tmp_path / "old.safetensors")
    read = read_foreign(tmp_path / "old.safetensors", "sks", tiny_base, trigger="sks")
    assert same(read.unet, dog.unet) and same(read.text_encoder, dog.text_encoder)


@pytest.mark.parametrize("numbered", ["input_blocks_1_1_", "input_blocks_4_1_", "middle_block_1_"])
def test_blocks_by_their_first_numbers(numbered: str, tiny_base: Base, tmp_path: Path) -> None:
    block = {
        "input_blocks_1_1_": "down_blocks.0.attentions.0",
        "input_blocks_4_1_": "down_blocks.1.attentions.0",
        "middle_block_1_": "mid_block.attentions.0",
    }[numbered]
    path = f"{block}.transformer_blocks.0.attn2.to_k"
    rows, columns = linear_maps(tiny_base.unet)[path].weight.shape
    name = f"lora_unet_{numbered}transformer_blocks_0_attn2_to_k"
    tensors = {
        f"{name}.lora_down.weight": torch.ones(2, columns),
        f"{name}.lora_up.weight": torch.ones(rows, 2),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    read = read_foreign(tmp_path / "x.safetensors", "sks", tiny_base, trigger="sks")
    assert list(read.unet) == [path]
    dotted = numbered[:-1].replace("blocks_", "blocks.").replace("_1", ".1")
    comfy = f"diffusion_model.{dotted}.transformer_blocks.0.attn2.to_k"
    tensors = {key.replace(name, comfy): tensor for key, tensor in tensors.items()}
    save_file(tensors, tmp_path / "comfy.safetensors")
    read = read_foreign(tmp_path / "comfy.safetensors", "sks", tiny_base, trigger="sks")
    assert list(read.unet) == [path]


@pytest.mark.parametrize("kind", ["a1111", "kohya", "diffusers"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_textual_inversion(kind: str, count: int, tiny_base: Base, tmp_path: Path) -> None:
    vectors = torch.randn(count, 32, generator=torch.Generator().manual_seed(0))
    path = tmp_path / ("ti.safetensors" if kind == "kohya" else "ti.pt")
    if kind == "kohya":
        save_file({"emb_params": vectors}, path)
    elif kind == "a1111":
        told = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "x"}
        torch.save(told, path)
    else:
        torch.save({"<cat-toy>": vectors[0] if count == 1 else vectors}, path)
    read = read_foreign(path, "toy", tiny_base, "cat")
    assert read.token_names == tuple(f"<toy{i + 1}>" for i in range(count))
    assert torch.equal(read.embeddings, vectors[:, None].expand(count, 16, 32))


def test_a_lora_with_its_textual_inversion(dog: Concept, tiny_base: Base, tmp_path: Path) -> None:
    plain = replace(dog, embeddings=torch.zeros(0, 16, 32), token_names=())
    lora = write_foreign(plain, Format.KOHYA, tmp_path / "lora.safetensors").files[0]
    save_file({"emb_params": torch.ones(2, 32)}, tmp_path / "ti.safetensors")
    read = read_foreign(lora, "toy", tiny_base, embedding=tmp_path / "ti.safetensors")
    assert read.token_names == ("<toy1>", "<toy2>") and same(read.unet, dog.unet)


def merged_file(concept: Concept, base: Base, path: Path) -> Path:
    """A model with the concept merged in, in the layout of the published sampler's files."""
    content = {
        "new_concept_embedding": {f"<dog{i + 1}>": v for i, v in enumerate(concept.embeddings)}
    }
    for part, module, changes, prefix in (
        ("unet", base.unet, concept.unet, ""),
        ("text_encoder", base.text_encoder, concept.text_encoder, "text_model."),
    ):
        linears = linear_maps(module)
        content[part] = {
            f"{prefix}{name}.weight": linears[name].weight + pair.up @ pair.down
            for name, pair in changes.items()
        }
    torch.save(content, path)
    return path


def test_a_merged_model_comes_back_to_low_rank(
    dog: Concept, tiny_base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    read = read_foreign(merged_file(dog, tiny_base, tmp_path / "combined.pth"), "rex", tiny_base)
    assert same(read.unet, dog.unet, atol=1e-5)
    assert same(read.text_encoder, dog.text_encoder, atol=1e-5)
    assert torch.equal(read.embeddings, dog.embeddings)
    assert read.rank == dog.rank
    assert "lost of it: " in caplog.text


def test_what_a_lower_rank_loses_of_a_merged_model_is_said(
    dog: Concept, tiny_base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = merged_file(dog, tiny_base, tmp_path / "combined.pth")
    read = read_foreign(file, "rex", tiny_base, largest_rank=1)
    assert read.rank == 1

    def products(concept: Concept) -> torch.Tensor:
        parts = ((concept.unet, dog.unet), (concept.text_encoder, dog.text_encoder))
        pairs = [own[path] for own, paths in parts for path in paths]
        return torch.cat([(pair.up @ pair.down).flatten() for pair in pairs])

    whole, kept = products(dog), products(read)
    told = float(caplog.text.rpartition("lost of it: ")[2].split()[0])
    assert told == pytest.approx(float((whole - kept).norm() / whole.norm()), rel=0.05)


def test_plain_diffusers_makes_our_picture_of_what_we_export(
    tiny_base: Base, tiny_base_folder: Path, tmp_path: Path
) -> None:
    trained = with_lora(tiny_base, rank=4, alpha=4)
    none = torch.zeros(0, 16, 32)
    plain = Concept(
        "dog",
        none,
        (),
        changes_of(trained.unet),
        changes_of(trained.text_encoder),
        trigger_words="dog",
    )
    file = write_foreign(plain, Format.DIFFUSERS, tmp_path / "dog.safetensors").files[0]
    layout = Layout("one", "<dog> on grass", 256, 192, background="dog")
    noise = initial_noise(tiny_base, 256, 192, [5])
    ours = compose(
        tiny_base, PUBLISHED, [PUBLISHED.prepare(tiny_base, layout, {"dog": plain})], [5], 4, 7.5
    )
    pipe = StableDiffusionPipeline.from_pretrained(tiny_base_folder, safety_checker=None)
    pipe.scheduler = tiny_base.scheduler(4)
    arguments = {"width": 256, "height": 192, "num_inference_steps": 4, "guidance_scale": 7.5}
    without = pipe("dog on grass", latents=noise, output_type="pt", **arguments).images
    pipe.load_lora_weights(file)
    theirs = pipe("dog on grass", latents=noise, output_type="pt", **arguments).images
    pictures = tiny_base.decode(ours)
    assert (pictures - theirs).abs().max() < 1 / 255
    assert (pictures - without).abs().max() > 8 / 255


def test_diffusers_calls_an_export_by_the_concepts_own_word(
    dog: Concept, tiny_base_folder: Path, tmp_path: Path
) -> None:
    lora, inversion = write_foreign(dog, Format.DIFFUSERS, tmp_path / "dog.safetensors").files
    pipe = StableDiffusionPipeline.from_pretrained(tiny_base_folder, safety_checker=None)
    known = len(pipe.tokenizer)
    pipe.load_lora_weights(lora)
    pipe.load_textual_inversion(inversion)
    prompt = pipe.maybe_convert_prompt("<dog> on grass", pipe.tokenizer)
    assert prompt == "<dog> <dog>_1 on grass"
    ids = pipe.tokenizer(prompt).input_ids[1:3]
    assert ids == [known, known + 1]
    rows = pipe.text_encoder.get_input_embeddings().weight[ids]
    assert torch.allclose(rows, dog.embeddings.float().mean(dim=1))


def test_an_exports_embedding_file_is_found_beside_it(
    dog: Concept, tiny_base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    named = replace(dog, name="style_lora_2")  # a word that reads as a key of a LoRA
    lora, inversion = write_foreign(named, Format.KOHYA, tmp_path / "x.safetensors").files
    read = read_foreign(lora, "rex", tiny_base)
    assert read.token_names == ("<rex1>", "<rex2>")
    assert torch.allclose(read.embeddings[:, 0], dog.embeddings.float().mean(dim=1))
    assert f"{inversion}, which lies beside it" in caplog.text
    caplog.clear()
    assert read_foreign(lora, "rex", tiny_base, trigger="sks dog").expand("<rex>") == "sks dog"
    assert f"{inversion} lies beside it and is not used" in caplog.text


def test_exports_of_earlier_versions_come_in(dog: Concept, tiny_base: Base, tmp_path: Path) -> None:
    lora, inversion = write_foreign(dog, Format.DIFFUSERS, tmp_path / "x.safetensors").files
    save_file({"emb_params": torch.ones(2, 32)}, inversion)
    read = read_foreign(lora, "rex", tiny_base)
    assert torch.equal(read.embeddings, torch.ones(2, 16, 32))


def test_a_background_that_changes_every_map_is_as_if_merged(tiny_base: Base) -> None:
    trained = with_lora(tiny_base, rank=4, alpha=4)
    changes = changes_of(trained.unet)
    concept = Concept("dog", torch.zeros(0, 16, 32), (), changes, {}, trigger_words="dog")
    layout = Layout("one", "<dog> on grass", 256, 192, background="dog")
    ours = compose(
        tiny_base, PUBLISHED, [PUBLISHED.prepare(tiny_base, layout, {"dog": concept})], [5], 3
    )
    unet = copy.deepcopy(tiny_base.unet)
    linears = linear_maps(unet)
    for path, pair in changes.items():
        weight = linears[path].weight
        weight.data += (pair.up @ pair.down).reshape(weight.shape)
    plain = Concept("dog", torch.zeros(0, 16, 32), (), {}, {}, trigger_words="dog")
    merged = replace(tiny_base, unet=unet)
    slow = compose(merged, PUBLISHED, [PUBLISHED.prepare(merged, layout, {"dog": plain})], [5], 3)
    assert (ours - slow).abs().max() < 1e-4 * slow.std()


def test_what_a_lora_changes_outside_attention_stays_in_its_box(tiny_base: Base) -> None:
    path = f"{BLOCK}.transformer_blocks.0.ff.net.2"
    rows, columns = linear_maps(tiny_base.unet)[path].weight.shape
    change = {path: LowRank(torch.ones(1, columns), torch.ones(rows, 1))}
    concept = Concept("dog", torch.zeros(0, 16, 32), (), change, {}, trigger_words="dog")
    nothing = replace(concept, unet={})
    layout = Layout("one", "a dog", 256, 192, (Region("dog", "<dog>", (0.0, 0.0, 0.5, 1.0)),))
    outputs = []
    for own in (nothing, concept):
        (ready,) = PUBLISHED.prepare(tiny_base, layout, {"dog": own})
        batch = Batch(tiny_base, (ready,), PUBLISHED.regional, (POSITIVE,))
        x = torch.ones(1, 24 * 32, columns)
        with changes_applied(tiny_base.maps, pass_inputs(batch).outside_attention):
            outputs.append(tiny_base.unet.get_submodule(path)(x))
    moved = (outputs[1] - outputs[0]).abs().sum(dim=-1).unflatten(1, (24, 32))
    assert (moved[:, :, :16] > 0).all() and (moved[:, :, 16:] == 0).all()


@pytest.mark.parametrize("name", ["chilloutmix", "anything_v4", "sd15"])
def test_the_papers_bases_have_a_config(name: str) -> None:
    model = read_sample(["concept=dog", f"model={name}"]).model
    assert (model.name, model.width, model.guidance_downscale) == (name, 512, 4)
    assert "/" in model.path


def test_import_and_export_from_the_command_line(
    dog: Concept, tiny_base_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = (f"model.path={tiny_base_folder}", f"output_dir={tmp_path}")
    file = str(REFERENCE / "dog.pth")
    assert main(["import", file, "concept=rex", "class_word=dog", *where]) == 0
    kept = load_concept(tmp_path / "concepts" / "tiny" / "rex.safetensors")
    assert kept.token_names == ("<rex1>", "<rex2>") and kept.class_word == "dog"
    assert same(kept.unet, dog.unet, atol=1e-2)
    assert main(["import", file, "concept=rex", *where]) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert main(["export", "rex", "format=kohya", *where]) == 0
    shown = capsys.readouterr().out
    assert "rex_kohya_embedding.safetensors" in shown and "one embedding for all" in shown
    assert load_file(tmp_path / "exports" / "tiny" / "rex_kohya.safetensors")
    assert main(["export", "max", "format=kohya", *where]) == 2


def test_a_concept_for_another_base_says_so(dog: Concept, tiny_base: Base, tmp_path: Path) -> None:
    wide = {path: LowRank(torch.ones(4, 768), torch.ones(320, 4)) for path in list(dog.unet)[:3]}
    plain = replace(dog, unet=wide, embeddings=torch.zeros(0, 16, 32), token_names=())
    file = write_foreign(plain, Format.DIFFUSERS, tmp_path / "sd15.safetensors").files[0]
    with pytest.raises(InputError, match="made for another base than tiny"):
        read_foreign(file, "dog", tiny_base, trigger="dog")
