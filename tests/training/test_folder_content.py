"""What people put into a concept's folder is used, or they are told that it is not, and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from toolkit.errors import InputError
from toolkit.training.concept_folder import ConceptFolder, read_concept_folder
from toolkit.training.run import train

CASES = Path(__file__).parent.parent / "cases"


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def read(folder: Path) -> ConceptFolder:
    return read_concept_folder(folder, "rex")


def told(folder: Path) -> str:
    return "\n".join(read(folder).warnings)


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_inventory_counts_what_there_is(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    picture(tmp_path / "10_sks dog" / "d.png")
    picture(tmp_path / "masks" / "a.png", "white")
    (tmp_path / "a.txt").write_text("<rex>")
    folder = read(tmp_path)
    assert folder.inventory == (
        "rex: 4 images, 1 caption, 1 mask, repeats: 1 for 3 of them, 10 for 1 of them"
    )
    assert not folder.warnings


def test_training_says_the_inventory_and_the_warnings_once(
    make_config: Callable[..., object], images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (images / "notes.md").touch()
    with caplog.at_level("INFO"):
        train(make_config(steps=1))  # type: ignore[arg-type]
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("rex: 3 images, 2 captions, 3 masks, 1 repeat each") == 1
    (unused,) = [line for line in lines if line.startswith("not used")]
    assert unused == "not used: 1 file (notes.md): neither image, caption nor mask"


@pytest.mark.parametrize("name", ["a.TXT", "a.Caption", "a.png.txt", "a.png.caption"])
def test_captions_under_the_names_that_people_give_them(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / name).write_text("<rex> asleep")
    folder = read(tmp_path)
    assert folder.images[0].caption == "<rex> asleep" and not folder.warnings


@pytest.mark.parametrize(
    "name",
    [
        "masks/a.png", "masks/a.PNG", "masks/a.jpg", "masks/a.webp", "mask/a.png", "Masks/a.png",
        "masks/a.png.png", "masks/a_mask.png", "masks/a-mask.png", "a-masklabel.png", "a_mask.png",
        "a.mask.png",
    ],
)  # fmt: skip
def test_masks_under_the_names_that_people_give_them(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    mask = picture(tmp_path / name, "white")
    folder = read(tmp_path)
    assert [(image.path.name, image.mask) for image in folder.images] == [("a.png", mask)]
    assert not folder.warnings


def test_a_coloured_picture_beside_an_image_is_no_mask(tmp_path: Path) -> None:
    picture(tmp_path / "dog.png")
    picture(tmp_path / "dog_mask.png", "blue")
    assert [image.path.name for image in read(tmp_path).images] == ["dog.png", "dog_mask.png"]


@pytest.mark.parametrize("case", ["mask_dir_mask", "mask_jpg", "mask_orphan", "mask_upper"])
def test_masks_ignored(case: str) -> None:
    assert read(CASES / "masks_ignored" / case).images[0].mask is not None


def test_masklabel_trained() -> None:
    images = read(CASES / "masklabel_trained" / "masklabel").images
    assert [(image.path.name, image.mask and image.mask.name) for image in images] == [
        ("a.png", "a-masklabel.png"),
        ("b.png", "b-masklabel.png"),
    ]


def test_an_accent_may_be_written_in_one_code_or_in_two(tmp_path: Path) -> None:
    picture(tmp_path / "caf\u00e9.png")
    (tmp_path / "cafe\u0301.txt").write_text("<rex> asleep")
    picture(tmp_path / "masks" / "cafe\u0301.png", "white")
    (image,) = read(tmp_path).images
    assert image.caption == "<rex> asleep" and image.mask is not None


def test_what_belongs_to_no_image_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "masks" / "other.png", "white")
    picture(tmp_path / "gone-masklabel.png", "white")
    picture(tmp_path / "a-condlabel.png")
    for name in ("a.txt", "a.caption", "b.txt", "x.heic", "film.mp4", "LICENSE", ".hidden"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    lines = told(tmp_path)
    for line in (
        "2 captions (a.caption, b.txt): no image of that name, or it has another caption",
        "2 masks (gone-masklabel.png, masks/other.png): no image of that name",
        "1 image (a-condlabel.png): for OneTrainer to condition on",
        "2 files (film.mp4, x.heic): a format that is not read; convert to PNG or JPEG",
        "1 file (LICENSE): neither image, caption nor mask",
        "1 link (link.png): what it leads to is not there",
    ):
        assert line in lines
    assert ".hidden" not in lines and len(read(tmp_path).images) == 1


def test_long_lists_of_names_are_cut(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for number in range(20):
        (tmp_path / f"{number:02}.txt").touch()
    assert "20 captions (00.txt, 01.txt, 02.txt, 03.txt, 04.txt, 05.txt and 14 more)" in told(
        tmp_path
    )


def test_nested_ignored() -> None:
    lines = told(CASES / "nested_ignored" / "nested_mixed")
    assert "2 images (more/b.png, more/c.png): more/ is not read" in lines


def test_images_below_a_kohya_folder_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "2_sks" / "a.png")
    picture(tmp_path / "2_sks" / "deep" / "b.png")
    assert "1 image (2_sks/deep/b.png): 2_sks/deep/ is not read" in told(tmp_path)


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(read(tmp_path).images) == 1 and not read(tmp_path).warnings


def test_kohya_zero_repeats(tmp_path: Path) -> None:
    for name, repeats in (("a", 0), ("b", 2)):
        picture(tmp_path / f"{repeats}_sks dog" / f"{name}.png")
    assert "1 image in 0_sks dog/, which asks for 0 repeats: rename it" in told(tmp_path)
    assert [image.path.name for image in read(tmp_path).images] == ["b.png"]
    shutil.rmtree(tmp_path / "2_sks dog")
    assert "0_sks dog asks for 0 repeats of every image of rex: rename it" in refused(tmp_path)


def test_more_repeats_than_can_be_meant_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "9999999999_sks" / "a.png")
    assert "more than 100000" in refused(tmp_path)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("kohya_noname", "some in 10_/ (1): set concept.images="),
        ("kohya_number", "some in 10/ (1): set concept.images="),
        ("nested_plain", "some in sub/ (1): set concept.images="),
        ("meta_train", "some in train/ (1): set concept.images="),
        ("other_heic", "only 1 file (a.heic): a format that is not read; convert to PNG"),
    ],
)
def test_no_images_message(case: str, said: str) -> None:
    assert said in refused(CASES / "no_images_message" / case)


def test_where_kohyas_folders_lie_deeper_their_parent_is_what_to_give(tmp_path: Path) -> None:
    picture(tmp_path / "my dogs" / "img" / "10_sks dog" / "a.png")
    message = refused(tmp_path)
    advised = message.partition("concept.images=")[2].strip("'")
    assert advised == str(tmp_path / "my dogs" / "img")
    assert len(read(Path(advised)).images) == 1


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    assert refused(tmp_path).endswith("holds no images of rex: it is empty")


@pytest.mark.parametrize("case", ["jfif_only", "other_avif"])
def test_formats_that_pillow_opens_are_read(case: str) -> None:
    assert len(read(CASES / "no_images_message" / case).images) == 1


@pytest.mark.parametrize("suffix", ["tga", "ppm", "jp2", "ico", "dds", "pcx", "sgi", "qoi", "apng"])
def test_every_still_format_is_an_image(suffix: str, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / f"a.{suffix}")
    assert len(read(tmp_path).images) == 1


@pytest.mark.parametrize("name", ["128078", "a.jpg_large", "a.jpeg~"])
def test_a_picture_is_told_by_its_content(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / name, format="JPEG")
    assert len(read(tmp_path).images) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture: convert it to PNG or JPEG"),
        (b"<!DOCTYPE html><html>", "a web page: download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"", "is refused: it is empty"),
    ],
)
def test_what_only_its_name_calls_a_picture_is_named(
    content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert said in refused(tmp_path)


def test_animations_are_said_to_be_seen_in_their_first_picture_only(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.gif")
    assert "all pictures but the first of 1 file that hold several (a.gif)" in told(tmp_path)


class TestMetadata:
    def test_csv(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        picture(tmp_path / "b.png")
        (tmp_path / "metadata.csv").write_text(
            'file_name,text,artist\na.png,"<rex>, asleep",me\nb.png,,\n', encoding="utf-8-sig"
        )
        folder = read(tmp_path)
        assert [image.caption for image in folder.images] == ["<rex>, asleep", "<rex>"]
        assert folder.warnings == (
            "not used: of metadata.csv, columns that are no caption: artist (1)",
        )

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("file,text\na.png,x\n", "line 1: needs the columns file_name and text"),
            ("file_name;text\na.png;x\n", "with commas between them"),
            ("file_name,text\na.png,one,two\n", "line 2: more values than columns"),
            ("file_name,text\nno.png,x\n", "line 2: there is no image"),
            ('file_name,text\na.png,"open\n', "line 2: unexpected end"),
        ],
    )
    def test_a_wrong_line_of_csv_is_named(self, text: str, said: str, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        (tmp_path / "metadata.csv").write_text(text)
        assert "metadata.csv, " in refused(tmp_path) and said in refused(tmp_path)

    def test_kohyas_json(self, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            picture(tmp_path / f"{name}.png")
        content = {
            "C:\\data\\a.png": {"caption": "<rex> asleep", "tags": "grass, sun"},
            "b": {"tags": "<rex>, running", "train_resolution": [512, 512]},
            "/old/place/gone": {"caption": "x"},
        }
        (tmp_path / "metadata.json").write_text(json.dumps(content))
        folder = read(tmp_path)
        captions = {image.path.name: image.caption for image in folder.images}
        assert captions == {
            "a.png": "<rex> asleep, grass, sun",
            "b.png": "<rex>, running",
            "c.png": "<rex>",
        }
        assert "images that are not there: /old/place/gone" in told(tmp_path)

    def test_json_of_another_form_is_said_to_be_unused(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        (tmp_path / "metadata.json").write_text('{"category": "photos"}')
        (warning,) = read(tmp_path).warnings
        assert "metadata.json: it is not kohya's form" in warning

    def test_an_image_is_listed_by_any_path_to_it(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        (tmp_path / "more").mkdir()
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "more/../a.png", "text": "<rex>!"}')
        assert [image.caption for image in read(tmp_path).images] == ["<rex>!"]

    def test_one_file_holds_and_the_others_are_named(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "<rex> one"}')
        (tmp_path / "metadata.csv").write_text("file_name,text\na.png,two\n")
        (tmp_path / "a.txt").write_text("three")
        lines = told(tmp_path)
        assert read(tmp_path).images[0].caption == "<rex> one"
        assert "1 file (metadata.csv): only the first" in lines and "1 caption (a.txt)" in lines

    def test_a_column_named_caption_is_one(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "caption": "<rex> one"}')
        assert read(tmp_path).images[0].caption == "<rex> one"

    @pytest.mark.parametrize("value", ['["<rex> one"]', "false", "7", "{}"])
    def test_text_must_be_text(self, value: str, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "a.png", "text": {value}}}')
        assert "metadata.jsonl, line 1: text" in refused(tmp_path)
        assert "expected text" in refused(tmp_path)

    def test_metadata_list_caption(self) -> None:
        assert "expected text" in refused(CASES / "metadata_list_caption" / "meta_list")

    def test_a_caption_may_hold_any_character(self) -> None:
        images = read(CASES / "unicode_line_breaks" / "meta_u2028").images
        assert [image.caption for image in images] == ["<rex>", "<rex> on a rug"]

    @pytest.mark.parametrize("name", ["\\u0000", "x" * 5000, "\\ud800"])
    def test_names_that_no_file_can_have_are_refused(self, name: str, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "{name}", "text": "x"}}')
        assert "line 1" in refused(tmp_path)


@pytest.mark.parametrize("case", ["cap_nul", "cap_utf16le_nobom"])
def test_caption_nul(case: str) -> None:
    message = refused(CASES / "caption_nul" / case)
    assert "a.txt is not UTF-8 text (line 1 holds NULs): save it as UTF-8" in message


@pytest.mark.parametrize(
    "name", ["a_MASK", "a-MaskLabel", "mask_a", "a (mask)", "a_masks", "a_segmentation", "a.mask"]
)
def test_a_mask_beside_its_image_is_known_however_it_is_named(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    mask = picture(tmp_path / f"{name}.png", "white")
    (image,) = read(tmp_path).images
    assert image.mask == mask


def test_what_lies_too_deep_is_not_said_to_be_named_wrong(tmp_path: Path) -> None:
    picture(tmp_path / "10_dog" / "a.png")
    picture(tmp_path / "10_dog" / "5_dog" / "b.png")
    picture(tmp_path / "masks" / "10_dog" / "a.png", "white")
    assert "10_dog/5_dog/ is not read" in told(tmp_path)
    assert "those lie in the folder itself" in told(tmp_path)
    assert "masks/10_dog/ is not read; masks lie in masks/" in told(tmp_path)


def test_a_damaged_picture_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "a damaged picture" in refused(tmp_path)
