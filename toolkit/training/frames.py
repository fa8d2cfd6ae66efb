"""Which part of an image is shown to training, and in what size."""

from dataclasses import dataclass

from PIL import Image

from toolkit.images.pictures import fit


@dataclass(frozen=True)
class Frame:
    """A cut of an image: scaled to cover a size, then cut to it.

    size: width and height in pixels.
    place: where the cut lies along the side that is too long, 0 (left, top) to 1.
    across, down: from where to where that place may go when each step cuts anew.
    zoom: the share of the image's sides that is looked at, 1 for all of it.
    """

    size: tuple[int, int]
    place: tuple[float, float] = (0.5, 0.5)
    across: tuple[float, float] = (0.0, 1.0)
    down: tuple[float, float] = (0.0, 1.0)
    zoom: float = 1.0

    def corner(self, size: tuple[int, int], mirrored: bool = False) -> tuple[int, int]:
        """How far from its top and left the cut of an image begins, once that is scaled, in pixels.

        size: the image's width and height. mirrored: after the cut, as if the image had been.
        """
        looked_at = [side * min(self.zoom, 1.0) for side in size]
        scale = max(own / side for own, side in zip(self.size, looked_at, strict=True))
        over = [side * scale - own for own, side in zip(self.size, size, strict=True)]
        left, top = (round(whole * place) for whole, place in zip(over, self.place, strict=True))
        return top, (round(over[0]) - left if mirrored else left)

    def of(self, image: Image.Image) -> Image.Image:
        """What is shown of `image`; one that has the size already is left as it is."""
        if self.zoom < 1:
            width, height = (max(round(side * self.zoom), 1) for side in image.size)
            left = round((image.width - width) * self.place[0])
            top = round((image.height - height) * self.place[1])
            image = image.crop((left, top, left + width, top + height))
        return fit(image, *self.size, self.place)
