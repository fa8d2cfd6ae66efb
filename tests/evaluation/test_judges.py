"""Judges embed as the libraries they come from do."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from toolkit.errors import InputError
from toolkit.evaluation.clip import ClipJudge
from toolkit.evaluation.imagenet import ImageNetJudge
from toolkit.evaluation.judges import load_judge
from toolkit.evaluation.pixels import batch_of

REFERENCE = Path(__file__).parent.parent / "reference" / "model"
PHOTO = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights and the reference model's words."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = CLIPTokenizer.from_pretrained(REFERENCE / "tokenizer")
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = CLIPConfig(
        text_config={
            **small,
            "num_attention_heads": 2,
            "vocab_size": len(tokenizer),
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**small, "num_attention_heads": 2, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_pictures_are_prepared_as_clip_prepares_them() -> None:
    photo = Image.open(PHOTO).convert("RGB")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    expected = processor(photo, return_tensors="pt").pixel_values
    found = batch_of([photo], 64, processor.image_mean, processor.image_std)
    assert torch.allclose(found, expected, atol=0.02)


def test_clip_scores_pictures_and_texts_as_transformers_does(clip_folder: Path) -> None:
    judge = ClipJudge("clip", str(clip_folder))
    photo = Image.open(PHOTO).convert("RGB")
    texts = ["a dog", "a photo of a cat on the grass"]
    embedded = judge.texts(texts)
    assert embedded is not None
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    ids = judge.tokenizer(texts, padding=True, return_tensors="pt")
    output = judge.model(
        pixel_values=processor(photo, return_tensors="pt").pixel_values,
        input_ids=ids.input_ids,
        attention_mask=ids.attention_mask,
    )
    cosines = output.logits_per_image / judge.model.logit_scale.exp()
    assert torch.allclose(judge.images([photo]) @ embedded.T, cosines, atol=1e-3)


def test_any_clip_can_judge_by_its_path(clip_folder: Path) -> None:
    judge = load_judge(str(clip_folder), "nowhere")
    assert judge.images([Image.new("RGB", (50, 80))]).norm().item() == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def dinov2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 with random weights, saved as its checkpoint is."""
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return folder


PROCESSOR = BitImageProcessorPil(
    size={"shortest_edge": 64},
    crop_size={"height": 56, "width": 56},
    image_mean=[0.485, 0.456, 0.406],
    image_std=[0.229, 0.224, 0.225],
)


def test_dinov2_is_known_by_its_config_and_sees_as_transformers_does(dinov2_folder: Path) -> None:
    judge = load_judge(str(dinov2_folder), "nowhere")
    photo = Image.open(PHOTO).convert("RGB")
    pictures = [photo, photo.rotate(90, expand=True)]
    model = Dinov2Model.from_pretrained(dinov2_folder).eval()
    with torch.no_grad():
        pixels = PROCESSOR(pictures, return_tensors="pt").pixel_values
        expected = model(pixel_values=pixels).last_hidden_state[:, 0]
    expected = torch.nn.functional.normalize(expected, dim=-1)
    assert (judge.images(pictures) * expected).sum(dim=-1).min() > 0.995
    assert judge.tells_collapse and judge.texts(["a dog"]) is None


def test_a_broken_dinov2_is_told_in_one_line(dinov2_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((dinov2_folder / "config.json").read_text())
    with pytest.raises(InputError, match="cannot load the DINOv2"):
        load_judge(str(tmp_path), "nowhere")


def test_many_pictures_are_embedded_as_each_alone(clip_folder: Path) -> None:
    judge = load_judge(str(clip_folder), "nowhere")
    colours = np.random.default_rng(0).integers(0, 255, (150, 3))
    pictures = [Image.new("RGB", (40, 30), tuple(map(int, colour))) for colour in colours]
    together = judge.images(pictures)
    alone = torch.cat([judge.images([pictures[index]]) for index in (0, 63, 64, 149)])
    assert len(together) == 150
    assert torch.allclose(together[[0, 63, 64, 149]], alone, atol=1e-5)


def test_a_clip_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder here"):
        load_judge(str(tmp_path / "nothing"), "nowhere")


def test_a_base_without_a_scorer_says_which_judges_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="judge=clip"):
        load_judge("mini", str(tmp_path))


def test_the_imagenet_judge_knows_a_uniform_when_it_sees_one() -> None:
    photo = Image.open(PHOTO).convert("RGB")
    pixels = batch_of([photo], 224, (127 / 255,) * 3, (128 / 255,) * 3)
    military_uniform = 652
    assert int(ImageNetJudge().model.classes(pixels).argmax()) == military_uniform


def test_imagenet_features_tell_a_picture_from_another() -> None:
    judge = ImageNetJudge()
    photo = Image.open(PHOTO).convert("RGB")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8))
    same, other = (
        judge.images([photo, photo.resize((256, 300)), noise])[1:] @ judge.images([photo])[0]
    )
    assert same > 0.9 > other
    assert judge.texts(["a dog"]) is None
