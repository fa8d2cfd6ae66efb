"""Latents on disk: made once for an image's content, whatever the image is called."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from toolkit.backbones.unet.framing import Framing
from toolkit.files import sha256_of, whole_file
from toolkit.training.concept_folder import ConceptImage
from toolkit.training.frames import Frame
from toolkit.training.views import View


@dataclass(frozen=True)
class LatentStore:
    """A folder with a file for each view of an image.

    encoder: what else the latents depend on, the base's autoencoder and type.
    """

    folder: Path
    encoder: str

    def digest(self, image: ConceptImage) -> str:
        """Changes when an image or its mask does."""
        return f"{sha256_of(image.path)} {image.mask and sha256_of(image.mask)}"

    def read(self, digest: str, frame: Frame, mirrored: bool) -> View | None:
        """A view that was kept; None where there is no whole one."""
        try:
            tensors = load_file(self._path(digest, frame, mirrored))
            rows = [(int(first), int(second)) for first, second in tensors["framing"]]
            return View(tensors["latents"], tensors.get("mask"), Framing(*rows))
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            return None

    def write(self, digest: str, frame: Frame, mirrored: bool, view: View) -> None:
        """Keep a view."""
        framing = view.framing
        tensors = {
            "latents": view.latents.contiguous(),
            "framing": torch.tensor([framing.original, framing.corner, framing.target]),
        }
        if view.mask is not None:
            tensors["mask"] = view.mask.contiguous()
        with whole_file(self._path(digest, frame, mirrored)) as temporary:
            save_file(tensors, temporary)

    def _path(self, digest: str, frame: Frame, mirrored: bool) -> Path:
        facts = json.dumps([self.encoder, digest, asdict(frame), mirrored])
        return self.folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.safetensors"
