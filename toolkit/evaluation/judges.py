"""Who embeds pictures and texts: CLIP, the embedded base's own scorer, or ImageNet features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image
from torch import Tensor

from toolkit.evaluation.asked import SCORER
from toolkit.evaluation.clip import ClipJudge
from toolkit.evaluation.imagenet import ImageNetJudge
from toolkit.evaluation.mini import MiniJudge

CLIP = "openai/clip-vit-base-patch32"


class Judge(Protocol):
    """Embeds pictures and texts as vectors of unit length that can be compared.

    tells_presence: whether it is also asked if a subject is there, is itself, and stands in its
        box; a judge of sharp photographs only is not.
    """

    name: str
    tells_presence: bool

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, dim) embeddings of RGB pictures of any size."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor | None:
        """(n, dim) embeddings of texts; None from a judge that reads no text."""
        ...


def load_judge(name: str, model_path: str) -> Judge:
    """The judge `clip`, `mini` or `imagenet`, or any CLIP by its folder or hub id.

    model_path: the base that composed, in whose folder `mini` finds its scorer.
    Raises InputError when the judge is not there.
    """
    if name == "imagenet":
        return ImageNetJudge()
    if name == "mini":
        return MiniJudge(Path(model_path))
    return ClipJudge(name, CLIP if name == "clip" else name)


def default_judges(model_path: str) -> tuple[str, ...]:
    """The base's own scorer where it has one, else CLIP."""
    return ("mini",) if (Path(model_path) / SCORER).is_dir() else ("clip",)
