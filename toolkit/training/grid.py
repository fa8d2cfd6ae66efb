"""A grid of pictures with captions people can read."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from toolkit.images.tensors import image_of

_MARGIN, _TEXT = 8, 14


def captioned_grid(
    rows: Sequence[tuple[str, Tensor]], title: str, smallest: int = 192
) -> Image.Image:
    """One row for each (caption, (n, 3, height, width) pixels in 0..1), under a title.

    Pictures narrower than `smallest` pixels are enlarged by a whole factor.
    """
    pictures = [[_picture(pixels, smallest) for pixels in row] for _, row in rows]
    width, height = pictures[0][0].size
    columns = max(len(row) for row in pictures)
    line = _TEXT + _MARGIN
    canvas = Image.new(
        "RGB",
        (
            columns * (width + _MARGIN) + _MARGIN,
            len(rows) * (height + line + _MARGIN) + line + _MARGIN,
        ),
        "white",
    )
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN), title, fill="black", font=ImageFont.load_default(_TEXT))
    top = line + _MARGIN
    for (caption, _), row in zip(rows, pictures, strict=True):
        font = _font_that_fits(draw, caption, canvas.width - 2 * _MARGIN)
        draw.text((_MARGIN, top), caption, fill="black", font=font)
        for column, picture in enumerate(row):
            canvas.paste(picture, (_MARGIN + column * (width + _MARGIN), top + line))
        top += height + line + _MARGIN
    return canvas


def first_picture(grid: Image.Image, width: int, height: int, smallest: int = 192) -> Image.Image:
    """The first picture of a `captioned_grid` whose pictures are width x height, as it shows it."""
    factor = -(-smallest // width)
    left, top = _MARGIN, 2 * (_TEXT + _MARGIN) + _MARGIN
    return grid.crop((left, top, left + width * factor, top + height * factor))


def _picture(pixels: Tensor, smallest: int) -> Image.Image:
    """(3, height, width) in 0..1."""
    picture = image_of(pixels)
    factor = -(-smallest // picture.width)
    return picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )


def _font_that_fits(
    draw: ImageDraw.ImageDraw, text: str, width: int
) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for size in range(_TEXT, 7, -1):
        font = ImageFont.load_default(size)
        if draw.textlength(text, font=font) <= width:
            return font
    return font
