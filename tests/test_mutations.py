"""Damaged files of every kind that is read end as what they mean or as one line."""

import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from toolkit.backbones import Base
from toolkit.concept.file import load_concept, save_concept
from toolkit.concept.formats.mix_of_show import load_mix_of_show
from toolkit.concept.formats.read import read_foreign
from toolkit.errors import InputError
from toolkit.images.pictures import read_mask, read_picture
from toolkit.layout.files import read_layouts, read_lines
from toolkit.text.json_values import read_json
from toolkit.text.yaml_values import read_scalar, read_yaml
from toolkit.training.concept_folder import read_concept_folder

CASES = Path(__file__).parent / "cases"
REFERENCE = Path(__file__).parent / "reference" / "concepts"
HOSTILE = [
    b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b"\xe2\x80\xa8", b"'",
    b'"', b"{", b"}", b"[", b"]", b": ", b"- ", b"#", b"&a ", b"*a", b"!!int ", b"!!set ", b"%",
    b"!!binary ", b"---\n", b"<<: ", b"null", b"true", b"NaN", b"-1", b"1e999", b"9" * 400,
    b"\\u0000", b"\\ud800", b"../", b"/", b"~", b"[" * 2000, b"\xf0\x9f\xa6\x8a", b",", b"\\",
]  # fmt: skip


def mutants(content: bytes, number: int, seed: int) -> Iterator[bytes]:
    """Copies of `content`, each damaged in a few places, near its beginning more often."""
    chance = random.Random(seed)
    for _ in range(number):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 5))):
            reach = max(len(damaged), 1) if chance.random() < 0.5 else min(len(damaged), 300) or 1
            place = chance.randrange(reach)
            length = chance.choice((0, 1, 1, 4, 30))
            match chance.randrange(5):
                case 0:
                    damaged[place : place + length] = chance.choice(HOSTILE)
                case 1:
                    damaged[place : place + length] = chance.randbytes(length)
                case 2:
                    damaged[place:place] = damaged[place : place + 20]
                case 3:
                    del damaged[place : place + length]
                case 4 if chance.random() < 0.3:
                    del damaged[place:]
        yield bytes(damaged)


def read_or_refused(read: Callable[[], object]) -> bool:
    """Whether it was read; anything but an InputError of one line fails the test."""
    try:
        read()
    except InputError as error:
        assert "\n" not in str(error)
        return False
    return True


def check(contents: Iterator[bytes], file: Path, read: Callable[[Path], object]) -> None:
    """Some are read, some are refused, and nothing else happens."""
    outcomes = []
    for content in contents:
        file.write_bytes(content)
        outcomes.append(read_or_refused(lambda: read(file)))
    assert not all(outcomes)


def test_layouts_in_yaml(tmp_path: Path) -> None:
    content = (CASES / "ok.yaml").read_bytes()
    check(mutants(content, 400, 1), tmp_path / "a.yaml", lambda file: read_layouts([file]))


def test_lines_of_layouts(tmp_path: Path) -> None:
    content = (CASES / "unicode_line_breaks" / "u2028.jsonl").read_bytes()
    check(mutants(content, 300, 2), tmp_path / "a.jsonl", read_lines)


def test_yaml_and_json_values() -> None:
    yaml = b"a: &a [1, 0.5, no, {b: 'c'}]\nd: *a\n? e\n: >\n  folded\nf: 2024-01-01\n"
    for content in mutants(yaml, 400, 3):
        text = content.decode("utf-8", "surrogateescape")
        read_or_refused(lambda text=text: read_yaml(text, "x"))  # type: ignore[misc]
        read_scalar(text)
    for content in mutants(b'{"a": [1, 0.5, null, {"b": "\\u00e9"}], "c": true}', 300, 4):
        text = content.decode("utf-8", "surrogateescape")
        read_or_refused(lambda text=text: read_json(text, "x"))  # type: ignore[misc]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A concept's folder with one image of a few pixels."""
    (tmp_path / "rex").mkdir()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "rex" / "a.png")
    return tmp_path / "rex"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a café, <rex>\n"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "<rex>"}\n{"file_name": "a.png"}\n'),
        ("metadata.csv", 'file_name,text,x\na.png,"<rex>, asleep",1\na.png,<rex>,\n'),
        ("metadata.json", '{"a": {"caption": "<rex>", "tags": "x"}, "/b.png": {"tags": ""}}'),
    ],
)
def test_captions_and_metadata(name: str, content: str, folder: Path) -> None:
    check(
        mutants(content.encode(), 150, 5),
        folder / name,
        lambda _: read_concept_folder(folder, "rex"),
    )


@pytest.mark.parametrize(
    "format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "TGA", "PPM"]
)
def test_pictures_and_masks(format: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    stored = io.BytesIO()
    options = {"exif": exif} if format in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF") else {}
    Image.radial_gradient("L").resize((12, 8)).convert("RGB").save(stored, format=format, **options)
    sound = tmp_path / "sound.png"
    Image.new("RGB", (12, 8)).save(sound)

    def read(file: Path) -> None:
        try:
            read_picture(file)
        finally:
            read_or_refused(lambda: read_mask(file, sound))
            read_or_refused(lambda: read_mask(sound, file))

    check(mutants(stored.getvalue(), 40, 6), tmp_path / f"a.{format.lower()}", read)


def test_loras_and_their_settings(tiny_base: Base, tmp_path: Path) -> None:
    module = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
    tensors = {
        f"{module}.lora_A.weight": torch.ones(1, 16),
        f"{module}.lora_B.weight": torch.ones(16, 1),
    }
    told = {"r": 1, "lora_alpha": 2, "use_rslora": True, "alpha_pattern": {"to_q": 4}}
    metadata = {"lora_adapter_metadata": json.dumps(told)}
    lora = tmp_path / "adapter_model.safetensors"
    save_file(tensors, lora, metadata)

    def read(_: Path) -> object:
        return read_foreign(lora, "toy", tiny_base, trigger="sks")

    check(mutants(lora.read_bytes(), 200, 7), lora, read)
    save_file(tensors, lora)
    check(mutants(json.dumps(told).encode(), 100, 8), tmp_path / "adapter_config.json", read)


def test_concept_files(tmp_path: Path) -> None:
    file = tmp_path / "dog.safetensors"
    save_concept(load_mix_of_show(REFERENCE / "dog.pth", "dog"), file)
    check(mutants(file.read_bytes(), 100, 9), file, load_concept)
