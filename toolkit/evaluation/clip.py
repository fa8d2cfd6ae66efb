"""Any CLIP through transformers."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from toolkit.backbones.source import offline_copy
from toolkit.errors import InputError
from toolkit.evaluation.pixels import CPU, batch_of, embedded

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class ClipJudge:
    """Embeddings of pictures and texts by one CLIP."""

    tells_presence = True
    tells_collapse = False

    def __init__(self, name: str, path: str, device: torch.device = CPU) -> None:
        """Load a folder or hub id; InputError when there is no CLIP."""
        self.name = name
        self.device = device
        if not Path(path).exists():
            offline_copy(path, f"judge={name}: {path} is no folder here", "config.json")
        try:
            model = CLIPModel.from_pretrained(path).eval().requires_grad_(False)
            self.tokenizer = CLIPTokenizer.from_pretrained(path)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"judge={name}: cannot load the CLIP {path}: {reason}") from error
        self.model = model.to(device)

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, dim) embeddings of unit length of RGB pictures of any size."""
        side = int(self.model.config.vision_config.image_size)

        def embed(pixels: Tensor) -> Tensor:
            pooled = self.model.vision_model(pixel_values=pixels).pooler_output
            return self.model.visual_projection(pooled)

        return embedded(
            pictures, lambda some: batch_of(some, side, _MEAN, _DEVIATION), embed, self.device
        )

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor | None:
        """(n, dim) embeddings of unit length; what exceeds the window is cut."""
        ids = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(
            self.device
        )
        pooled = self.model.text_model(
            input_ids=ids.input_ids, attention_mask=ids.attention_mask
        ).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=-1).cpu()
