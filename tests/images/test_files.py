"""Pictures and masks of any depth, turn and size are read as they are meant, or refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from toolkit.errors import InputError
from toolkit.images.files import open_image
from toolkit.images.pictures import read_mask, read_picture
from toolkit.training.concept_folder import read_concept_folder

CASES = Path(__file__).parent.parent / "cases"
LEFT_HALF = np.repeat([[1.0, 0.0]], 4, axis=0)


def save(values: np.ndarray, path: Path) -> Path:
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("case", ["float_tif01", "int32tif", "gray16_12bit"])
def test_tiff_black(case: str) -> None:
    pixels = np.asarray(read_picture(CASES / "tiff_black" / case / "a.tif"))
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_what_a_16_bit_png_calls_transparent_is_white() -> None:
    assert (np.asarray(read_picture(CASES / "tiff_black" / "gray16_trns" / "a.png")) == 255).all()


@pytest.mark.parametrize(
    ("dtype", "full"),
    [
        (np.float32, 1.0), (np.float32, 255), (np.float32, 65535), (np.float32, 1.01),
        (np.float32, 7.5), (np.int32, 1), (np.int32, 255), (np.int32, 65535), (np.int32, 10**9),
        (np.uint16, 1), (np.uint16, 255), (np.uint16, 1023), (np.uint16, 4095), (np.uint16, 65535),
    ],
)  # fmt: skip
def test_pictures_and_masks_are_scaled_by_what_they_hold(
    dtype: type, full: float, tmp_path: Path
) -> None:
    file = save((LEFT_HALF * full).astype(dtype), tmp_path / "a.tif")
    assert np.asarray(read_mask(file)).tolist() == [[255, 0]] * 4
    assert np.asarray(read_picture(file))[..., 0].tolist() == [[255, 0]] * 4


def test_a_dark_16_bit_picture_stays_dark(tmp_path: Path) -> None:
    file = save(np.full((2, 2), 40 * 257, dtype=np.uint16), tmp_path / "a.png")
    assert (np.asarray(read_picture(file)) == 40).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_values_that_are_no_brightness_are_refused(value: float, tmp_path: Path) -> None:
    file = save(np.array([[0, value]], dtype=np.float32), tmp_path / "a.tif")
    for read in (read_picture, read_mask):
        with pytest.raises(InputError, match=r"a\.tif \((it holds values|its values)"):
            read(file)


def png_of_16_bits(path: Path, colour: tuple[int, int, int], clear: bool = False) -> Path:
    """One pixel of 16 bits a channel, which Pillow reads and does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(
            ">I", zlib.crc32(kind + content)
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    values = struct.pack(">HHH", *colour)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", values) if clear else b"")
        + chunk(b"IDAT", zlib.compress(b"\0" + values))
        + chunk(b"IEND", b"")
    )
    return path


def test_16_bit_colours_are_read_and_those_of_12_bits_refused(tmp_path: Path) -> None:
    file = png_of_16_bits(tmp_path / "a.png", (200 * 257, 0, 0))
    assert np.asarray(read_picture(file)).tolist() == [[[200, 0, 0]]]
    file = png_of_16_bits(tmp_path / "clear.png", (200 * 257, 0, 0), clear=True)
    assert np.asarray(read_picture(file)).tolist() == [[[255, 255, 255]]]
    file = png_of_16_bits(tmp_path / "dark.png", (4000, 0, 0))
    with pytest.raises(InputError, match=r"dark\.png .*only the lower 12 bits"):
        read_picture(file)


@pytest.mark.parametrize("case", ["exif_srational_-1_0", "exif_subifds_rational"])
def test_exif_struct_error(case: str) -> None:
    file = CASES / "exif_struct_error" / case / "a.jpg"
    with Image.open(file) as stored:
        assert read_picture(file).size == stored.size[::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_of_the_stored_pixels_turns_with_its_picture(
    orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    mask = np.zeros((8, 16), dtype=np.uint8)
    mask[:2, :4] = 255
    Image.fromarray(mask).convert("RGB").save(tmp_path / "a.png", exif=exif)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    read = np.asarray(read_mask(tmp_path / "mask.png", tmp_path / "a.png"))
    upright = np.asarray(read_picture(tmp_path / "a.png"))[..., 0]
    assert read.shape == upright.shape
    if orientation >= 5:  # else both ways have one size, and the upright one is meant
        assert (read == upright).all()
    else:
        assert (read == mask).all()


def test_a_mask_whose_turn_its_size_does_not_tell_is_named(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", exif=exif)
    (tmp_path / "masks").mkdir()
    Image.new("L", (8, 8), "white").save(tmp_path / "masks" / "a.png")
    (warning,) = read_concept_folder(tmp_path, "rex").warnings
    assert "1 mask (a.png) of pictures that EXIF turns" in warning


def test_mask_shape_silent() -> None:
    turned = CASES / "mask_shape_silent" / "mask_exif"
    mask = read_mask(turned / "masks" / "a.png", turned / "a.jpg")
    assert mask.size == read_picture(turned / "a.jpg").size and mask.getbbox() == (24, 0, 48, 32)
    with pytest.raises(InputError, match="48 x 64 pixels, where the picture is 64 x 48: draw it"):
        read_concept_folder(CASES / "mask_shape_silent" / "mask_other_aspect", "rex")


@pytest.mark.parametrize(
    ("size", "fits"),
    [((100, 67), True), ((50, 33), True), ((50, 34), True), ((300, 201), True), ((100, 100), False),
     ((67, 100), False), ((100, 60), False)],
)  # fmt: skip
def test_a_mask_may_be_of_another_size_but_not_of_another_shape(
    size: tuple[int, int], fits: bool, tmp_path: Path
) -> None:
    Image.new("RGB", (100, 67)).save(tmp_path / "a.png")
    Image.new("L", size, "white").save(tmp_path / "mask.png")
    if fits:
        assert read_mask(tmp_path / "mask.png", tmp_path / "a.png").size == (100, 67)
    else:
        with pytest.raises(InputError, match="draw it on that picture"):
            read_mask(tmp_path / "mask.png", tmp_path / "a.png")


def test_huge_image_message(tmp_path: Path) -> None:
    Image.new("1", (14000, 13000)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png \(larger than 179 megapixels: make it smaller\)"):
        read_picture(tmp_path / "a.png")


def test_a_large_picture_is_read_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    Image.new("1", (10000, 9000)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").image.size == (10000, 9000)
    assert not recwarn.list


@pytest.mark.parametrize("place", ["before the pixels", "after the pixels"])
def test_a_picture_with_a_large_text_is_read(place: str, tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    text = b"workflow\0\0" + zlib.compress(b"x" * 3_000_000)
    texts.add(b"zTXt", text, after_idat=place.startswith("after"))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png", pnginfo=texts)
    assert np.asarray(read_picture(tmp_path / "a.png"))[0, 0].tolist() == [255, 0, 0]
