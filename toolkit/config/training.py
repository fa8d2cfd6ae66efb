"""What the training of an ED-LoRA can be told."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from toolkit.concept.stored import ED_LORA
from toolkit.config.learning import LearningConfig
from toolkit.config.limits import MOST_STEPS, at_least, between, share
from toolkit.errors import InputError


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
    captions: Literal["files", "class_word"] = "files"
    """Where captions come from; class_word: each is <NAME> and the class word."""
    caption_lines: bool = False
    """Each line of a caption is a caption of its own; one is drawn at each step."""
    caption_dropout: float = 0.0
    """How often a caption is left out, 0 to 1."""
    shuffle_tags: bool = False
    """What stands between commas comes in a new order at each step."""
    keep_tags: int = 1
    """How many tags stay in front of the shuffled ones."""
    prior: str | None = None
    """A folder of pictures of the class word, or how many the base makes itself; null: none."""
    prior_weight: float = 1.0
    """Of the loss on those pictures."""
    validation: float = 0.0
    """Share of the images that are held out, to measure the loss on; 0: nothing is measured."""
    validate_every_steps: int | None = None
    """How often that loss is measured; null: 20 times in all."""
    keep: Literal["last", "best"] = "last"
    """Which weights are written: the last step's, or those of the lowest held-out loss."""
    patience: int | None = None
    """Stop after so many measurements without a lower held-out loss; null: never."""

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
            "prior_weight",
            "keep_tags",
            "attention_regularisation",
        ):
            at_least(f"training.{name}", getattr(self, name), 0)
        share("training.caption_dropout", self.caption_dropout, 1)
        self._check_validation()

    def _check_validation(self) -> None:
        share("training.validation", self.validation, 0.5)
        for name in ("validate_every_steps", "patience"):
            if getattr(self, name) is not None:
                between(f"training.{name}", getattr(self, name), 1, MOST_STEPS)
        if self.validation == 0 and self.keep == "best":
            raise InputError("training.keep=best needs a loss to go by: training.validation=0.15")
        if self.validation == 0 and self.patience is not None:
            raise InputError("training.patience needs a loss to go by: training.validation=0.15")
