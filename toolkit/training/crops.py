"""`crops.png`: every image as training sees it."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from toolkit.files import whole_file
from toolkit.images.pictures import read_picture
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.frames import Frame

_LARGEST, _MARGIN, _TEXT, _COLUMNS, _MOST = 144, 6, 11, 8, 400


def write_crops(
    images: Sequence[ConceptImage], frames: Sequence[Frame], path: Path, note: str = ""
) -> None:
    """Each image in its frame, with its name and the frame's size; the first 400 of very many."""
    number = min(len(images), _MOST)
    columns = min(_COLUMNS, number)
    rows = -(-number // columns)
    across, down = _LARGEST + _MARGIN, _LARGEST + 2 * _TEXT + 2 * _MARGIN
    top = _TEXT + 2 * _MARGIN
    canvas = Image.new("RGB", (max(columns * across + _MARGIN, 420), rows * down + top), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(_TEXT)
    title = f"{len(images)} images as training sees them{note}"
    draw.text((_MARGIN, _MARGIN), title, fill="black", font=font)
    for place, (image, frame) in enumerate(zip(images[:number], frames[:number], strict=True)):
        left, upper = place % columns * across + _MARGIN, place // columns * down + top
        shown = frame.of(read_picture(image.path))
        shown.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
        canvas.paste(shown, (left, upper))
        name = image.path.name if len(image.path.name) <= 24 else image.path.name[:21] + "..."
        told = f"{name}\n{frame.size[0]} x {frame.size[1]}"
        draw.multiline_text((left, upper + shown.height + 2), told, fill="black", font=font)
    with whole_file(path) as temporary:
        canvas.save(temporary)
