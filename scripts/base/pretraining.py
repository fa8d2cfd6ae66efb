"""The training of text tower and U-Net: one stretch of minutes, which may be cut into many runs."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from . import checkpoint
from .bank import Bank
from .captured import CapturedTraining
from .recipes import Recipe, optimizers, set_rates
from .scenes import Painter
from .stages import LEANING, STAGES
from .text_to_image import NOISE, TextToImage, new_model, read_tokenizer, velocity_loss
from .validation import Validation, rounded

SAVED_EVERY = 150  # seconds
CHECKPOINT = "text_to_image.pt"
BATCH = {"cpu": 16, "cuda": 512}  # pictures of 128 x 128 a step


@dataclass
class Progress:
    """How far a training is: steps and pictures in all, seconds of the present stretch."""

    steps: int = 0
    samples: int = 0
    spent: float = 0.0


@dataclass
class Training:
    """Networks, their averages, optimizers and progress: what a checkpoint holds."""

    model: TextToImage
    recipe: Recipe
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        """Averages start where the networks are."""
        text_encoder, unet = self.model.text_encoder, self.model.unet
        self.networks = nn.ModuleDict({"text_encoder": text_encoder, "unet": unet})
        text_encoder.requires_grad_(bool(self.recipe.text_rate))
        self.averages = {decay: copy.deepcopy(self.networks) for decay in self.recipe.decays}
        for average in self.averages.values():
            average.requires_grad_(False)
        self.optimizers = optimizers(self.recipe, unet, text_encoder)
        self.trained = [weight for weight in self.networks.parameters() if weight.requires_grad]

    def step(self, latents: Tensor, ids: Tensor, schedule: DDPMScheduler, leaning: float) -> Tensor:
        """One update of all that is trained; returns the loss."""
        self.networks.zero_grad()
        loss = self.loss(latents, self.embeds(ids), schedule, leaning)
        loss.backward()
        self.update()
        return loss.detach()

    def embeds(self, ids: Tensor) -> Tensor:
        """(n, tokens, DIM) float32 text states of token ids (n, tokens)."""
        with self.autocast(), torch.set_grad_enabled(bool(self.recipe.text_rate)):
            states: Tensor = self.model.text_encoder(ids).last_hidden_state
        return states.float()

    def loss(
        self, latents: Tensor, embeds: Tensor, schedule: DDPMScheduler, leaning: float
    ) -> Tensor:
        """The loss of a batch at random timesteps."""
        with self.autocast():
            return velocity_loss(
                self.model.unet, schedule, latents, embeds, leaning, self.recipe.min_snr
            )

    def update(self) -> None:
        """Move weights by their gradients, and averages towards the weights."""
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        for decay, average in self.averages.items():
            checkpoint.move_average(average, self.networks, decay)

    def autocast(self) -> torch.autocast:
        """Half precision on a GPU."""
        device = self.model.unet.device.type
        return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def candidates(self) -> dict[str, TextToImage]:
        """What might be kept: each average, by its decay."""
        return {
            str(decay): TextToImage(self.model.tokenizer, average["text_encoder"], average["unet"])
            for decay, average in self.averages.items()
        }

    def save(self, path: Path, best: str | None = None) -> None:
        """Write all of it; `best` is the average to publish (the shortest while training goes on).

        A finished stretch (`best` is given) leaves weights only: the next one starts afresh.
        """
        decay = float(best) if best else min(self.averages)
        state: dict[str, Any] = {
            "average": self.averages[decay].state_dict(),
            "steps": self.progress.steps,
            "samples": self.progress.samples,
        }
        if best:
            state |= {"model": state["average"], "stretch": None}
        else:
            state |= {
                "model": self.networks.state_dict(),
                "stretch": {
                    "spent": self.progress.spent,
                    "averages": {str(d): a.state_dict() for d, a in self.averages.items()},
                    "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                },
            }
        checkpoint.write(path, **state)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `save` or the step `restore` wrote."""
        self.networks.load_state_dict(state["model"])
        stretch = state.get("stretch")
        for decay, average in self.averages.items():
            average.load_state_dict(
                stretch["averages"][str(decay)] if stretch else state["average"]
            )
        if stretch:
            for optimizer, saved in zip(self.optimizers, stretch["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        self.progress = Progress(
            state["steps"], state["samples"], stretch["spent"] if stretch else 0.0
        )


def fit(
    training: Training,
    bank: Bank,
    stage: str,
    seconds: float,
    save: Callable[[], None] | None = None,
) -> None:
    """Train until the stretch's seconds are spent; the rates decay once over all of them."""
    schedule = DDPMScheduler(**NOISE)
    progress, recipe = training.progress, training.recipe
    before, began, saved = progress.spent, time.monotonic(), time.monotonic()
    losses: list[Tensor] = []
    device = bank.vae.device.type
    captured = CapturedTraining(training, schedule, LEANING[stage]) if device == "cuda" else None
    while progress.spent < seconds:
        set_rates(training.optimizers, progress.spent / seconds)
        latents, ids = bank.batch(recipe.batch or BATCH[device])
        if captured:
            losses.append(captured.step(latents, ids))
        else:
            losses.append(training.step(latents, ids, schedule, LEANING[stage]))
        progress.steps += 1
        progress.samples += len(latents)
        if len(losses) % 200 == 0:
            mean = float(torch.stack(losses[-200:]).mean())
            left = seconds - progress.spent
            logging.info(
                "%s %d steps, %d samples: loss %.4f, %d of %d drawn, %.0f s left",
                *(stage, progress.steps, progress.samples, mean),
                *(sum(bank.drawn), sum(len(held) for held in bank.latents), left),
            )
        progress.spent = before + time.monotonic() - began
        if save and time.monotonic() - saved > SAVED_EVERY:
            save()
            saved = time.monotonic()


def train(
    painter: Painter,
    work: Path,
    stage: str,
    minutes: float,
    recipe: Recipe,
    processes: int,
    validated: int,
    seed: int = 0,
) -> None:
    """One stretch of a stage, from the last checkpoint or from nothing.

    minutes: of the whole stretch; a run that was stopped goes on where it was. processes: that
    draw. validated: pictures of each canvas in the validation loss, which chooses the average.
    """
    vae, bank, validation = _prepare(painter, work, stage, processes, validated, seed)
    training = _start(painter, work, recipe, vae.device)
    fit(training, bank, stage, 60 * minutes, lambda: training.save(work / CHECKPOINT))
    bank.close()
    training.save(work / CHECKPOINT)
    schedule, found = DDPMScheduler(**NOISE), {}
    for name, model in training.candidates().items():
        found[name] = validation.losses(model, schedule)
        logging.info("average over %s: %s", name, json.dumps(rounded(found[name])))
    best = min(found, key=lambda name: found[name]["mean"])
    by_name = validation.by_name(training.candidates()[best], schedule)
    training.save(work / CHECKPOINT, best)
    report = {
        "steps": training.progress.steps,
        "samples": training.progress.samples,
        "average": best,
        "losses": rounded(found[best]),
        "by_name": rounded(dict(sorted(by_name.items(), key=lambda item: -item[1]))),
    }
    (work / "training.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


def compare(
    painter: Painter,
    work: Path,
    stage: str,
    minutes: float,
    recipes: dict[str, Recipe],
    processes: int,
    validated: int,
) -> None:
    """Train by each recipe for the same minutes from the same weights; prints a table as JSON."""
    vae, bank, validation = _prepare(painter, work, stage, processes, validated, seed=0)
    schedule = DDPMScheduler(**NOISE)
    rows: dict[str, Any] = {}
    for name, recipe in recipes.items():
        torch.manual_seed(0)
        training = _start(painter, work, recipe, vae.device)
        if not rows:
            rows["before"] = rounded(validation.losses(training.model, schedule))
        before = training.progress.samples
        fit(training, bank, stage, 60 * minutes)
        averages = {
            decay: validation.losses(model, schedule)
            for decay, model in training.candidates().items()
        }
        best = min(averages, key=lambda decay: averages[decay]["mean"])
        rows[name] = rounded(averages[best]) | {
            "average": best,
            "means": {decay: round(losses["mean"], 4) for decay, losses in averages.items()},
            "samples": training.progress.samples - before,
        }
        logging.info("%s: %s", name, json.dumps(rows[name]))
    bank.close()
    rows["best"] = min(recipes, key=lambda name: rows[name]["mean"])
    (work / "recipes.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


def _prepare(
    painter: Painter, work: Path, stage: str, processes: int, validated: int, seed: int
) -> tuple[AutoencoderTiny, Bank, Validation]:
    device = checkpoint.best_device()
    torch.set_float32_matmul_precision("high")
    vae = AutoencoderTiny.from_pretrained(work / "vae").to(device).eval().requires_grad_(False)
    tokenizer = read_tokenizer(painter, work)
    leaning = Painter(painter.world, work / "art.zip", leaning=True)
    bank = Bank(leaning, work / "art.zip", vae, tokenizer, STAGES[stage], processes, seed)
    return vae, bank, Validation(painter, vae, tokenizer, validated)


def _start(painter: Painter, work: Path, recipe: Recipe, device: torch.device) -> Training:
    model = new_model(read_tokenizer(painter, work))
    model.text_encoder.to(device)
    model.unet.to(device)
    if device.type == "cpu":
        model.unet.to(memory_format=torch.channels_last)  # a tenth faster there
    training = Training(model, recipe)
    state = checkpoint.read(work / CHECKPOINT, device)
    if state:
        training.restore(state)
    return training
