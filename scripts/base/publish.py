"""Write the embedded base as a Stable Diffusion folder, in one swap."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import (
    StableDiffusionPipeline,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer

from . import checkpoint
from .art import World
from .autoencoder import write_encoder_state
from .scenes import Painter
from .stages import STAGES
from .text_to_image import (
    TextToImage,
    new_model,
    read_average,
    sampling_scheduler,
    token_ids,
)
from .words import grow_tokenizer

SHARD = "15MB"


def publish(painter: Painter, work: Path, folder: Path) -> None:
    """Replace what the steps made in `folder`, keeping its model card and the card's pictures."""
    fresh = folder.with_name(folder.name + ".new")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline, steps, samples = assemble(painter, work)
    pipeline.unet.half().save_pretrained(fresh / "unet", max_shard_size=SHARD)
    pipeline.vae.half().save_pretrained(fresh / "vae")
    pipeline.text_encoder.save_pretrained(fresh / "text_encoder", max_shard_size=SHARD)
    pipeline.tokenizer.save_pretrained(fresh / "tokenizer")
    pipeline.scheduler.save_pretrained(fresh / "scheduler")
    write_for_earlier_transformers(fresh)
    pipeline.save_config(fresh)
    if (work / "scorer").exists():
        shutil.copytree(work / "scorer", fresh / "scorer")
    for config in fresh.rglob("*config.json"):
        forget_origin(config)
    write_lists(painter.world, fresh / "held_out.json", steps, samples)
    for kept in (*folder.glob("*.md"), *folder.glob("*.png")):
        shutil.copy2(kept, fresh / kept.name)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_for_earlier_transformers(folder: Path) -> None:
    """Let transformers 4 read what transformers 5 saved, which still reads it as well.

    It wants the vocabulary in two files, and `text_model.` before the names of tensors, as
    Stable Diffusion has them: without that it starts from random weights, with a warning only.
    """
    vocabulary = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer" / "vocab.json").write_text(
        json.dumps(vocabulary["vocab"], ensure_ascii=False) + "\n"
    )
    merges = "".join(f"{' '.join(pair)}\n" for pair in vocabulary["merges"])
    (folder / "tokenizer" / "merges.txt").write_text(f"#version: 0.2\n{merges}")
    for file in (folder / "text_encoder").glob("*.safetensors"):
        tensors = {
            f"text_model.{name.removeprefix('text_model.')}": tensor
            for name, tensor in load_file(file).items()
        }
        save_file(tensors, file, {"format": "pt"})


def forget_origin(config: Path) -> None:
    """Drop from a saved config which folder its weights were read from."""
    content = json.loads(config.read_text())
    if content.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(content, indent=2) + "\n")


def restore(world: World, work: Path, folder: Path) -> None:
    """Make a work folder from a published one, to train it further: weights only.

    Names that the published vocabulary lacks get a token each, with an untrained embedding.
    """
    for part in ("vae", "tokenizer", "scorer"):
        if not (folder / part).exists():
            continue
        shutil.copytree(folder / part, work / part, dirs_exist_ok=True)
    tokenizer = grow_tokenizer(
        CLIPTokenizer.from_pretrained(folder / "tokenizer"), [*world.names, *world.places]
    )
    tokenizer.save_pretrained(work / "tokenizer")
    model = new_model(tokenizer)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    model.unet.load_state_dict(pipeline.unet.state_dict())
    words = model.text_encoder.get_input_embeddings().weight.detach().clone()
    known = pipeline.text_encoder.get_input_embeddings().weight
    words[: len(known)] = known.detach()
    pipeline.text_encoder.set_input_embeddings(nn.Embedding.from_pretrained(words))
    model.text_encoder.load_state_dict(pipeline.text_encoder.state_dict())
    weights = {
        f"{name}.{key}": value
        for name, part in (("text_encoder", model.text_encoder), ("unet", model.unet))
        for key, value in part.state_dict().items()
    }
    write_encoder_state(work)
    seen = json.loads((folder / "held_out.json").read_text())
    checkpoint.write(
        work / "text_to_image.pt",
        model=weights,
        average=weights,
        stretch=None,
        steps=seen["steps"],
        samples=seen["samples"],
    )


def assemble(painter: Painter, work: Path) -> tuple[StableDiffusionPipeline, int, int]:
    """The last checkpoint's averaged weights as a float32 pipeline; its steps and samples."""
    model, steps, samples = read_average(painter, work)
    silence_unseen_words(painter, model)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderTiny.from_pretrained(work / "vae"),
        text_encoder=model.text_encoder.eval(),
        tokenizer=model.tokenizer,
        unet=model.unet.eval(),
        scheduler=sampling_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline, steps, samples


def silence_unseen_words(painter: Painter, model: TextToImage) -> None:
    """Give tokens that no caption holds the mean embedding: a random one would act as noise."""
    rng = np.random.default_rng(1)
    kinds = [kind for stage in STAGES.values() for _, kind in stage]
    captions = [painter.picture(rng, kinds[i % len(kinds)])[1] for i in range(4000)]
    seen = token_ids(model.tokenizer, captions).unique()
    weight = model.text_encoder.get_input_embeddings().weight
    unseen = torch.ones(len(weight), dtype=torch.bool)
    unseen[seen] = False
    with torch.no_grad():
        weight[unseen] = weight[seen].mean(dim=0)


def write_lists(world: World, path: Path, steps: int, samples: int) -> None:
    """Write which (name, style) pairs were trained on and which were held out."""
    lists = {
        "held_out": world.held_out_pairs(),
        "trained": world.trained_pairs(),
        "concepts": {name: word for name, (word, _) in world.concepts.items()},
        "steps": steps,
        "samples": samples,
    }
    path.write_text(json.dumps(lists, indent=1) + "\n")


def sample_sheet(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    size: tuple[int, int],
    columns: int,
    guidance: float = 4.0,
) -> Image.Image:
    """A picture of (width, height) pixels per prompt, in rows of `columns`; seeds 0, 1, 2, ..."""
    width, height = size
    rows = -(-len(prompts) // columns)
    sheet = Image.new("RGB", (columns * (width + 4), rows * (height + 4)), "white")
    pipeline.set_progress_bar_config(disable=True)
    for start in range(0, len(prompts), columns):
        row = prompts[start : start + columns]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(row))]
        pictures = pipeline(
            row,
            width=width,
            height=height,
            num_inference_steps=20,
            guidance_scale=guidance,
            generator=generators,
        ).images
        for i, picture in enumerate(pictures):
            sheet.paste(picture, (i * (width + 4), start // columns * (height + 4)))
    return sheet
