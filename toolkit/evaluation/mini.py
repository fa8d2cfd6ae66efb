"""The embedded base's own CLIP: a vision tower beside the base's text tower."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from toolkit.evaluation.asked import SCORER, check_scorer
from toolkit.evaluation.pixels import CPU, batch_of, embedded


class MiniJudge:
    """Embeddings by the scorer in a base's folder. It never saw the shipped concepts' pictures."""

    name = "mini"
    tells_presence = True
    tells_collapse = False

    def __init__(self, base: Path, device: torch.device = CPU) -> None:
        """Load base/scorer and the base's text tower; InputError when it has no scorer."""
        check_scorer(base)
        self.device = device
        vision = CLIPVisionModelWithProjection.from_pretrained(base / SCORER, dtype=torch.float32)
        self.vision = vision.eval().to(device)
        self.tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
        self.text_encoder = CLIPTextModel.from_pretrained(
            base / "text_encoder", dtype=torch.float32
        ).eval()
        weights = load_file(base / SCORER / "text_projection.safetensors")
        self.text_projection = weights["text_projection.weight"].float()

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n, dim) embeddings of unit length of RGB pictures of any size."""
        half, side = (0.5, 0.5, 0.5), int(self.vision.config.image_size)
        return embedded(
            pictures,
            lambda some: batch_of(some, side, half, half),
            lambda pixels: self.vision(pixel_values=pixels).image_embeds,
            self.device,
        )

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor | None:
        """(n, dim) embeddings of unit length; what exceeds the window is cut."""
        ids = self.tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        pooled = self.text_encoder(input_ids=ids).pooler_output
        return F.normalize(pooled @ self.text_projection.T, dim=-1)
