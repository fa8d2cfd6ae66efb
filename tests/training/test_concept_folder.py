import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.errors import InputError
from toolkit.images.pictures import read_mask, read_picture
from toolkit.training.concept_folder import read_concept_folder


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def captions(folder: Path, name: str = "dog") -> list[str]:
    return [image.caption for image in read_concept_folder(folder, name).images]


def test_an_image_without_a_caption_is_the_concept(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert captions(tmp_path) == ["<dog>"]


def test_captions_stand_beside_the_images(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "c.webp"):
        picture(tmp_path / name)
    (tmp_path / "a.txt").write_text("  a photo of <dog>\non grass ")
    (tmp_path / "b.caption").write_text("\ufeff<dog1> <dog2> au café", encoding="utf-8")
    assert captions(tmp_path) == ["a photo of <dog> on grass", "<dog1> <dog2> au café", "<dog>"]


def test_captions_that_do_not_name_the_concept_get_it_in_front_with_one_warning(
    tmp_path: Path,
) -> None:
    for number in range(3):
        picture(tmp_path / f"{number}.png")
    (tmp_path / "0.txt").write_text("on the beach")
    (tmp_path / "1.txt").write_text("on the <cat>")
    assert captions(tmp_path) == ["<dog> on the beach", "<dog> on the <cat>", "<dog>"]
    (warning,) = read_concept_folder(tmp_path, "dog").warnings
    assert "2 of 2 captions" in warning  # 2.png has none


def test_kohya_folders_give_repeats_and_their_words_stand_for_the_concept(tmp_path: Path) -> None:
    picture(tmp_path / "10_sks dog" / "a.png")
    picture(tmp_path / "10_sks dog" / "b.png")
    picture(tmp_path / "10_sks dog" / "masks" / "b.png", "white")
    (tmp_path / "10_sks dog" / "a.txt").write_text("photo of sks dog on grass")
    picture(tmp_path / "2_other" / "c.png")
    images = read_concept_folder(tmp_path, "dog").images
    assert [image.caption for image in images] == ["photo of <dog> on grass", "<dog>", "<dog>"]
    assert [image.repeats for image in images] == [10, 10, 2]
    assert images[1].mask == tmp_path / "10_sks dog" / "masks" / "b.png"


def test_metadata_jsonl_gives_captions(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "train" / "b.png")
    lines = [{"file_name": "train/b.png", "text": "<dog> asleep"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert captions(tmp_path) == ["<dog>", "<dog> asleep"]


@pytest.mark.parametrize("line", ["{", "[1]", '{"text": "a"}', '{"file_name": "no.png"}'])
def test_a_wrong_line_of_metadata_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metadata.jsonl").write_text(line)
    with pytest.raises(InputError, match=r"metadata\.jsonl, line 1"):
        read_concept_folder(tmp_path, "dog")


def test_a_missing_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder .*nowhere"):
        read_concept_folder(tmp_path / "nowhere", "dog")
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="holds no images"):
        read_concept_folder(tmp_path, "dog")


def test_every_unreadable_image_and_mask_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no picture")
    whole = picture(tmp_path / "cut.png", size=(64, 64)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    picture(tmp_path / "dark.png")
    picture(tmp_path / "masks" / "dark.png", "black")
    with pytest.raises(InputError) as failure:
        read_concept_folder(tmp_path, "dog")
    for name in ("text.png", "cut.png", "masks/dark.png", "skip_unreadable"):
        assert name in str(failure.value)
    assert "good.png" not in str(failure.value)
    (image,) = read_concept_folder(tmp_path, "dog", skip_unreadable=True).images
    assert image.path.name == "good.png"


def test_a_folder_of_unreadable_images_is_an_error_even_when_told_to_skip(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="no readable image"):
        read_concept_folder(tmp_path, "dog", skip_unreadable=True)


def test_a_caption_in_another_encoding_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.txt is not UTF-8"):
        read_concept_folder(tmp_path, "dog")


def test_pictures_of_every_mode_become_upright_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (4, 8)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").size == (8, 4)
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    red, green, blue = np.asarray(read_picture(tmp_path / "print.jpg"))[0, 0]
    assert red > 200 and green < 60 and blue < 60
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (np.asarray(read_picture(tmp_path / "clear.png")) == 255).all()
    Image.new("L", (2, 2), 77).save(tmp_path / "gray.png")
    assert (np.asarray(read_picture(tmp_path / "gray.png")) == 77).all()
    deep = np.full((2, 2), 77 * 256, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert (np.asarray(read_picture(tmp_path / "deep.png")) == 77).all()


def test_a_mask_may_be_an_alpha_channel(tmp_path: Path) -> None:
    cut = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    cut.putpixel((1, 0), (0, 0, 0, 0))
    cut.save(tmp_path / "mask.png")
    assert np.asarray(read_mask(tmp_path / "mask.png")).tolist() == [[255, 0]]
