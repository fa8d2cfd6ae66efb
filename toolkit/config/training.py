"""What stage one can be told: the keys of each recipe, and reading them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from toolkit.concept.stored import CONES2, ED_LORA
from toolkit.config.limits import LARGEST_SEED, MOST_STEPS, at_least, between
from toolkit.errors import InputError, within
from toolkit.text.dataclass_values import read_dataclass
from toolkit.text.suggest import nearest


@dataclass(frozen=True)
class LearningConfig:
    """What every recipe can be told."""

    recipe: ClassVar[str]
    """What it is called, as `toolkit train recipe=` has it."""

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Images per step and device."""
    seed: int = 0
    """Of everything random in training."""
    checkpoint_every_steps: int = 100
    """How often training can be resumed from."""
    sample_every_steps: int = 200
    """How often a grid of samples is made; 0: never."""
    sample_prompts: tuple[str, ...] = ()
    """What the grid shows; empty: the concept alone."""
    skip_unreadable: bool = False
    """Train on the rest when an image cannot be read."""
    random_crop: bool = False
    """A new square of each image at each step, instead of its middle."""
    mirror: bool = False
    """Also show the images mirrored."""

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every_steps"):
            between(f"training.{name}", getattr(self, name), 1, MOST_STEPS)
        between("training.batch_size", self.batch_size, 1, 4096)
        at_least("training.sample_every_steps", self.sample_every_steps, 0)
        between("training.seed", self.seed, 0, LARGEST_SEED)


@dataclass(frozen=True)
class TrainingConfig(LearningConfig):
    """An ED-LoRA. The defaults suit Stable Diffusion."""

    recipe: ClassVar[str] = ED_LORA

    steps: int = 800
    batch_size: int = 4
    learning_rate_text_encoder: float = 1e-5
    """Of the text encoder's LoRA."""
    learning_rate_unet: float = 1e-4
    """Of the U-Net's LoRA."""
    learning_rate_embeddings: float = 1e-3
    """Of the concept's token embeddings."""
    rank: int = 4
    """Of every LoRA."""
    noise_offset: float = 0.01
    """Share of noise that is one value over a whole channel."""
    mask_loss: bool = True
    """Take the loss inside the masks, for images that have one."""
    attention_regularisation: float = 0.0
    """Weight of holding the tokens' attention to the masks."""
    max_embedding_norm: float | None = 0.55
    """Embeddings stop training at this norm; null: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_embedding_norm is not None:
            at_least("training.max_embedding_norm", self.max_embedding_norm, 0)
        between("training.rank", self.rank, 1, 4096)
        for name in (
            "learning_rate_text_encoder",
            "learning_rate_unet",
            "learning_rate_embeddings",
            "noise_offset",
            "attention_regularisation",
        ):
            at_least(f"training.{name}", getattr(self, name), 0)


@dataclass(frozen=True)
class Cones2Config(LearningConfig):
    """What Cones 2 adds to its class word (arXiv 2305.19327). The defaults are its authors'."""

    recipe: ClassVar[str] = CONES2

    steps: int = 4000
    batch_size: int = 1
    learning_rate: float = 5e-6
    """Of the text encoder, all of which trains."""
    weight_decay: float = 1e-2
    """AdamW's."""
    start_weight: float = 1e-2
    """Of holding the encoding of the text's beginning where it was."""
    rest_weight: float = 1e-3
    """Of holding the encoding behind the class word where it was."""
    max_gradient_norm: float = 1.0
    """Gradients are clipped to it, where trainer.gradient_clip_val says nothing."""
    checkpoint_every_steps: int = 500
    sample_every_steps: int = 1000
    random_crop: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "learning_rate",
            "weight_decay",
            "start_weight",
            "rest_weight",
            "max_gradient_norm",
        ):
            at_least(f"training.{name}", getattr(self, name), 0)


RECIPES: Mapping[str, type[LearningConfig]] = {
    one.recipe: one for one in (TrainingConfig, Cones2Config)
}
"""By the word that `kind:` has in a recipe's file."""


def build_training(recipe: str, content: Mapping[str, Any]) -> LearningConfig:
    """What `content` says of a recipe's keys. Raises InputError for one that it has not."""
    schema = RECIPES[recipe]
    known = [field.name for field in fields(schema)]
    for key in content:
        if key in known:
            continue
        others = [name for name, other in RECIPES.items() if _has(other, key)]
        if not others:
            raise InputError(
                f"unknown key training.{key} ({nearest(key, known)})", f"training.{key}"
            )
        raise InputError(
            f"training.{key}: recipe={recipe} has no such key (it has {', '.join(known)}); it is "
            f"one of recipe={', '.join(others)}",
            f"training.{key}",
        )
    with within("training"):
        return read_dataclass(schema, content, "training")


def _has(schema: type[LearningConfig], key: str) -> bool:
    return key in {field.name for field in fields(schema)}
