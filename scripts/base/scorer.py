"""The scorer: a CLIP vision tower and two projections, trained beside the frozen text tower."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from . import captions, checkpoint
from .art import read_art
from .autoencoder import as_pixels
from .scenes import Painter, SceneKind, paste, trim
from .text_to_image import SHORT_WINDOW, read_average, token_ids

SIDE = 64  # pixels of a scored picture
DIM = 128
BATCH = 64
BANK = 1024
REDRAWN = 16  # pictures a step
PAIRS = 24  # things a step that are shown twice
PEAK_LEARNING_RATE = 1e-3
EMPTY = 0.1  # share of pictures with no object
OPENINGS = ("", "", "a photo depicts ", "a photo depicts ", "a picture of ", "a drawing of ")


@dataclass(frozen=True)
class Content:
    """What a picture shows, or what a caption says; "" where nothing is said."""

    name: str
    style: str
    where: str

    def holds_for(self, picture: Content) -> bool:
        """Whether this, as a caption, is true of `picture`."""
        return all(
            not said or said == shown
            for said, shown in (
                (self.name, picture.name),
                (self.style, picture.style),
                (self.where, picture.where),
            )
        )


class Scorer(nn.Module):
    """CLIP without its text tower, which is the base's own."""

    def __init__(self, text_width: int) -> None:
        """Untrained; text_width: of the text tower's pooled output."""
        super().__init__()
        self.vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=DIM,
                intermediate_size=4 * DIM,
                projection_dim=DIM,
                num_hidden_layers=4,
                num_attention_heads=4,
                image_size=SIDE,
                patch_size=8,
            )
        )
        self.text_projection = nn.Linear(text_width, DIM, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))

    def logits(self, pixels: Tensor, pooled: Tensor) -> Tensor:
        """(pictures, texts): scaled cosines of pixels (n, 3, 64, 64) and pooled text (m, width)."""
        return self.logits_of(self.features(pixels), pooled)

    def features(self, pixels: Tensor) -> Tensor:
        """(pictures, DIM): what the tower sees in pixels (n, 3, 64, 64), before the projection."""
        features: Tensor = self.vision.vision_model(pixels).pooler_output
        return features

    def logits_of(self, features: Tensor, pooled: Tensor) -> Tensor:
        """`logits` of pictures whose features are there."""
        images = F.normalize(self.vision.visual_projection(features), dim=-1)
        texts = F.normalize(self.text_projection(pooled), dim=-1)
        return self.logit_scale.exp() * images @ texts.T


class Spread(nn.Module):
    """A projection of texts that is learned as if texts spread alike in all directions.

    The text tower's pooled states of two names may have a cosine of 0.999: a projection learned as
    it is hardly pulls them apart. Parametrises a weight (out, width).
    """

    shrink: Tensor
    stretch: Tensor

    def __init__(self, pooled: Tensor) -> None:
        """pooled: (n, width) of many captions."""
        super().__init__()
        spread, directions = torch.linalg.eigh(pooled.T.double() @ pooled.double() / len(pooled))
        scale = spread.clamp(min=1e-6 * float(spread.max())).sqrt()
        self.register_buffer("shrink", (directions / scale @ directions.T).float())
        self.register_buffer("stretch", (directions * scale @ directions.T).float())

    def forward(self, weight: Tensor) -> Tensor:
        """From what is learned to the projection of pooled states."""
        return weight @ self.shrink

    def right_inverse(self, weight: Tensor) -> Tensor:
        """From the projection of pooled states to what is learned."""
        return weight @ self.stretch


def save(scorer: Scorer, folder: Path) -> None:
    """Write the vision tower as transformers does; both other weights in a file beside it."""
    copy.deepcopy(scorer.vision).half().cpu().save_pretrained(folder)
    weights = {
        "text_projection.weight": scorer.text_projection.weight.detach().half().cpu().contiguous(),
        "logit_scale": scorer.logit_scale.detach().float().cpu(),
    }
    save_file(weights, folder / "text_projection.safetensors")


def load(folder: Path) -> Scorer:
    """Read what `save` wrote, in float32."""
    weights = load_file(folder / "text_projection.safetensors")
    scorer = Scorer(weights["text_projection.weight"].shape[1])
    scorer.vision = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32)
    scorer.text_projection.weight.data = weights["text_projection.weight"].float()
    scorer.logit_scale.data = weights["logit_scale"]
    return scorer


def contrastive_loss(logits: Tensor, true: Tensor) -> Tensor:
    """CLIP's loss where several texts may be true of one picture.

    logits: (pictures, texts). true: (pictures, texts), bool, one or more in each row and column.
    The logarithm of the softmax, over rows and over columns, is averaged over what is true.
    """
    target = true.float()
    by_picture = (logits.log_softmax(dim=1) * target).sum(dim=1) / target.sum(dim=1)
    by_text = (logits.log_softmax(dim=0) * target).sum(dim=0) / target.sum(dim=0)
    return -(by_picture.mean() + by_text.mean()) / 2


def sameness_loss(first: Tensor, second: Tensor) -> Tensor:
    """How hard each row's fellow is to find among all rows of the other side; both (n, dim).

    InfoNCE both ways on cosines, at a temperature of 0.1.
    """
    logits = 10 * F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T
    rows = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2


class Cards:
    """Pictures of one object or none, 64 x 64, with what they show, redrawn as they are used."""

    def __init__(self, painter: Painter, vae: AutoencoderTiny, rng: np.random.Generator) -> None:
        """Draw the first ones."""
        self.painter, self.vae, self.rng = painter, vae, rng
        self.contents: list[Content] = []
        self.pixels = torch.empty(0)
        self.pixels = self._draw(BANK)

    def batch(self) -> tuple[Tensor, list[Content]]:
        """Pictures (BATCH, 3, 64, 64) in [-1, 1], and what each shows."""
        places = self.rng.choice(BANK, REDRAWN, replace=False)
        kept, self.contents = self.contents, []
        self.pixels[places] = self._draw(REDRAWN)
        for place, content in zip(places, self.contents, strict=True):
            kept[place] = content
        self.contents = kept
        chosen = self.rng.choice(BANK, BATCH, replace=False)
        return self.pixels[chosen], [self.contents[place] for place in chosen]

    @torch.no_grad()
    def _draw(self, count: int) -> Tensor:
        """Half of them as the autoencoder paints them, so that made pictures are judged alike."""
        drawn = []
        for _ in range(count):
            picture, content = draw_card(self.painter, self.rng)
            drawn.append(picture)
            self.contents.append(content)
        return weathered(as_pixels(drawn), self.vae, self.rng)


class Pairs:
    """Two pictures of each of some things, in two of its styles: what a thing is beyond its style.

    All the art the autoencoder may see serves, named or not, and no text is read: so the tower
    learns to see more than the few names that captions have.
    """

    def __init__(
        self, painter: Painter, pack: Path, vae: AutoencoderTiny, rng: np.random.Generator
    ) -> None:
        """Read all art that is not held out."""
        self.painter, self.rng = painter, rng
        self.weather = partial(weathered, vae=vae, rng=rng)
        by_style = [read_art(pack, style) for style in painter.world.styles]
        drawn = {thing: [art[thing] for art in by_style if thing in art] for thing in by_style[-1]}
        self.things = {
            thing: [trim(art) for art in versions]
            for thing, versions in drawn.items()
            if len(versions) > 1
        }

    @torch.no_grad()
    def batch(self) -> tuple[Tensor, Tensor]:
        """Two times (PAIRS, 3, 64, 64) in [-1, 1]; the same row shows the same thing."""
        chosen = self.rng.choice(list(self.things), PAIRS, replace=False)
        first, second = [], []
        for thing in chosen:
            versions = self.things[str(thing)]
            one, other = self.rng.choice(len(versions), 2, replace=False)
            first.append(self._draw(versions[one]))
            second.append(self._draw(versions[other]))
        order = torch.from_numpy(self.rng.permutation(2 * PAIRS))
        pixels = as_pixels(first + second)
        pixels[order] = self.weather(pixels[order])
        return pixels[:PAIRS], pixels[PAIRS:]

    def _draw(self, art: Image.Image) -> Image.Image:
        canvas, _ = self.painter.picture(self.rng, SceneKind(SIDE, SIDE, 0, 0, scenery=0.6))
        _paste_somewhere(canvas, art, self.rng)
        return canvas


def weathered(pixels: Tensor, vae: AutoencoderTiny, rng: np.random.Generator) -> Tensor:
    """(n, 3, h, w) pictures in [-1, 1] as made ones look.

    The first half passes through the autoencoder; then each is blurred and its light and colours
    are changed a little, by its own amount.
    """
    painted = pixels[: len(pixels) // 2]
    decoded = [
        vae.decode(vae.encode(some.to(vae.device)).latents).sample.to(pixels.device)
        for some in painted.split(64)
    ]
    pixels = torch.cat([*decoded, pixels[len(painted) :]]).clamp(-1, 1)
    drawn = torch.from_numpy(rng.uniform(0, 1, (7, len(pixels), 1, 1, 1))).float()
    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    pixels = torch.lerp(pixels, blurred, drawn[0] * (drawn[1] < 0.5))
    grey = pixels.mean(dim=1, keepdim=True)
    saturated = grey + (pixels - grey) * (0.75 + 0.5 * drawn[2])
    tint = 0.1 * (drawn[4:].squeeze(-1).transpose(0, 1) - 0.5)
    return (saturated * (0.85 + 0.3 * drawn[3]) + tint).clamp(-1, 1)


def draw_card(painter: Painter, rng: np.random.Generator) -> tuple[Image.Image, Content]:
    """One object, sometimes cut by the edge, or none."""
    canvas, where = painter.picture(rng, SceneKind(SIDE, SIDE, 0, 0, scenery=0.6))
    if rng.random() < EMPTY:
        return canvas, Content("", "", where)
    name = str(rng.choice(painter.names))
    style = str(rng.choice(painter.world.styles_of(name)))
    _paste_somewhere(canvas, painter.art[name, style], rng)
    return canvas, Content(name, style, where)


def _paste_somewhere(canvas: Image.Image, art: Image.Image, rng: np.random.Generator) -> None:
    size = int(rng.integers(34, 65))
    slack = max(SIDE - size, 0)
    left, top = (int(rng.integers(-size // 8, slack + size // 8 + 1)) for _ in range(2))
    box = (left, top, left + size, top + size)
    paste(canvas, art, box, bool(rng.random() < 0.5))


def caption(rng: np.random.Generator, shown: Content) -> tuple[str, Content]:
    """A caption true of what is shown, which may leave out style and background."""
    if not shown.name:
        return shown.where, shown
    phrase = captions.object_phrase(rng, shown.name, shown.style)
    style = shown.style if shown.style in phrase else ""
    where = shown.where if rng.random() < 0.4 else ""
    opening = str(rng.choice(OPENINGS))
    return opening + captions.one_caption(rng, phrase, "", where), Content(shown.name, style, where)


def train(painter: Painter, work: Path, minutes: float, seed: int = 0) -> None:
    """Train the scorer beside the text tower of the last checkpoint; leaves work/scorer."""
    model, _, _ = read_average(painter, work)
    device = checkpoint.best_device()
    text_encoder: CLIPTextModel = model.text_encoder.to(device).eval().requires_grad_(False)
    vae = AutoencoderTiny.from_pretrained(work / "vae").to(device).eval()
    scorer = Scorer(text_encoder.config.hidden_size)
    folder = work / "scorer"
    if folder.exists():
        scorer = load(folder)
    scorer.to(device)
    rng = np.random.default_rng([seed, int(time.time())])
    cards, pairs = Cards(painter, vae, rng), Pairs(painter, work / "art.zip", vae, rng)

    @torch.no_grad()
    def pooled_of(texts: list[str]) -> Tensor:
        ids = token_ids(model.tokenizer, texts)[:, :SHORT_WINDOW].to(device)
        return torch.cat([text_encoder(some).pooler_output for some in ids.split(BATCH)])

    spread = Spread(pooled_of([caption(rng, shown)[0] for shown in 2 * cards.contents]))
    parametrize.register_parametrization(scorer.text_projection, "weight", spread)
    optimizer = torch.optim.AdamW(scorer.parameters(), weight_decay=0.05, betas=(0.9, 0.98))
    losses: list[tuple[float, float]] = []
    saved = time.monotonic()
    for done in checkpoint.time_box(minutes):
        checkpoint.set_learning_rate(optimizer, PEAK_LEARNING_RATE, done)
        pixels, shown = cards.batch()
        texts, said = zip(*(caption(rng, content) for content in shown), strict=True)
        true = torch.tensor([[text.holds_for(picture) for text in said] for picture in shown])
        true = true.to(device)
        seen = scorer.features(torch.cat([pixels, *pairs.batch()]).to(device))
        named, first, second = seen.split([len(pixels), PAIRS, PAIRS])
        loss = contrastive_loss(scorer.logits_of(named, pooled_of(list(texts))), true)
        same = sameness_loss(first, second)
        optimizer.zero_grad()
        (loss + same).backward()
        nn.utils.clip_grad_norm_(scorer.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            scorer.logit_scale.clamp_(max=4.6)
        losses.append((float(loss.detach()), float(same.detach())))
        if len(losses) % 50 == 0:
            recent = tuple(np.mean(losses[-50:], axis=0))
            logging.info("scorer %d steps: text %.3f, sameness %.3f", len(losses), *recent)
        if time.monotonic() - saved > 60:
            save(scorer, folder)
            saved = time.monotonic()
    save(scorer, folder)
