"""Who embeds pictures and texts: CLIP, the embedded base's own scorer, DINOv2, or ImageNet's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from toolkit.evaluation.asked import SCORER
from toolkit.evaluation.clip import ClipJudge
from toolkit.evaluation.dinov2 import Dinov2Judge, is_dinov2
from toolkit.evaluation.imagenet import ImageNetJudge
from toolkit.evaluation.mini import MiniJudge
from toolkit.evaluation.pixels import CPU

CLIP = "openai/clip-vit-base-patch32"
DINOV2 = "facebook/dinov2-base"


class Judge(Protocol):
    """Embeds pictures and texts as vectors of unit length that can be compared.

    tells_presence: whether it is also asked if a subject is there, is itself, and stands in its
        box; a judge of sharp photographs only is not.
    tells_collapse: whether it also looks at the whole picture for each subject, for the Subject
        Collapse Rate, which is defined by DINOv2's similarities.
    """

    name: str
    tells_presence: bool
    tells_collapse: bool

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, dim) embeddings of RGB pictures of any size."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor | None:
        """(n, dim) embeddings of texts; None from a judge that reads no text."""
        ...


def load_judge(name: str, model_path: str, device: torch.device = CPU) -> Judge:
    """The judge `clip`, `mini`, `imagenet` or `dinov2`, or a CLIP or DINOv2 by folder or hub id.

    model_path: the base that composed, in whose folder `mini` finds its scorer. device: where its
    network looks.
    Raises InputError when the judge is not there.
    """
    if name == "imagenet":
        return ImageNetJudge(device)
    if name == "mini":
        return MiniJudge(Path(model_path), device)
    path = {"clip": CLIP, "dinov2": DINOV2}.get(name, name)
    return (Dinov2Judge if is_dinov2(name, path) else ClipJudge)(name, path, device)


def default_judges(model_path: str) -> tuple[str, ...]:
    """The base's own scorer where it has one, else CLIP."""
    return ("mini",) if (Path(model_path) / SCORER).is_dir() else ("clip",)
