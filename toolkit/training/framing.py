"""How each image of a concept is cut, and what is said of it before training."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.errors import InputError
from toolkit.images.files import open_image
from toolkit.images.pictures import read_mask
from toolkit.text.wording import counted, listed
from toolkit.training.buckets import Size, bucket_of, enlarged, frame_of, lost, subject_in
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.frames import Frame

_MUCH = 0.4  # a cut that takes more than this of an image is told


@dataclass(frozen=True)
class Framing:
    """A frame for each image. told: which buckets hold how many. warnings: what is cut too much."""

    frames: tuple[Frame, ...]
    told: str
    warnings: tuple[str, ...]


def in_buckets(
    images: Sequence[ConceptImage], base: Size, multiple: int, max_upscale: float
) -> Framing:
    """Cut each image to its bucket. Raises InputError naming the images that are too small."""
    frames, small, cut_subjects, cut = [], [], [], []
    held: Counter[Size] = Counter()
    scales = []
    for image in images:
        name, size = image.path.name, open_image(image.path).upright_size
        try:
            bucket = bucket_of(size, base, multiple, max_upscale)
        except InputError as error:
            small.append(f"{name} ({error})")
            continue
        subject = None if image.mask is None else subject_in(read_mask(image.mask, image.path))
        frame, whole = frame_of(size, bucket, subject)
        frames.append(frame)
        held[bucket] += 1
        scales.append(enlarged(size, bucket))
        if not whole:
            cut_subjects.append(name)
        elif lost(size, bucket) > _MUCH:
            cut.append(f"{name} ({size[0]} x {size[1]}, {lost(size, bucket):.0%} cut off)")
    if small:
        raise InputError("; ".join(small) + ": remove them, or raise training.max_upscale")
    warnings = []
    if cut_subjects:
        warnings.append(
            f"no bucket holds all of the subject in {counted(len(cut_subjects), 'image')}: "
            f"{listed(cut_subjects)}"
        )
    if cut:
        warnings.append(f"much is cut off {counted(len(cut), 'image')}: {listed(cut)}")
    sizes = sorted(held.items(), key=lambda one: (-one[1], one[0]))
    told = ", ".join(f"{width} x {height}: {number}" for (width, height), number in sizes)
    enlargements = sum(scale > 1 for scale in scales)
    if enlargements:
        told += f"; {enlargements} enlarged, by {max(scales):.2g} at most"
    return Framing(tuple(frames), f"buckets: {told}", tuple(warnings))
