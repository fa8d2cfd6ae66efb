"""What the training of an ED-LoRA can be told."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from toolkit.concept.stored import ED_LORA
from toolkit.config.learning import LearningConfig
from toolkit.config.limits import MOST_STEPS, above, at_least, between, share
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
    optimizer: Literal[
        "adam", "adamw", "adamw8bit", "prodigy", "adafactor", "schedulefree", "lion"
    ] = "adam"
    """What turns gradients into steps; adam is the recipe's."""
    weight_decay: float | None = None
    """Of the optimiser; null: its package's own default."""
    schedule: (
        Literal["linear", "cosine", "cosine_with_restarts", "polynomial", "constant"] | None
    ) = None
    """How the rates go on, by diffusers' names; null: linear to 0 at the last step."""
    warmup_steps: int = 0
    """Steps in which the rates rise from 0."""
    learning_rate_self_attention: float | None = None
    """Of the U-Net's self-attention; null: learning_rate_unet."""
    learning_rate_cross_attention: float | None = None
    """Of the U-Net's cross-attention; null: learning_rate_unet."""
    lora_plus_ratio: float = 1.0
    """The rate of a LoRA's up halves over that of its down halves (LoRA+; 16 is usual)."""
    rank_text_encoder: int | None = None
    """Of the text encoder's LoRA; null: rank."""
    rank_self_attention: int | None = None
    """Of the LoRA of the U-Net's self-attention; null: rank."""
    rank_cross_attention: int | None = None
    """Of the LoRA of the U-Net's cross-attention; null: rank."""
    min_snr_gamma: float | None = None
    """Weight the loss by Min-SNR with this gamma (5 is usual); null: every timestep alike."""
    ema_decay: float = 0.0
    """Write a running average of what trains, with this decay; 0: what trains itself."""
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
        self._check_optimisation()
        self._check_validation()

    def _check_optimisation(self) -> None:
        share("training.ema_decay", self.ema_decay, 0.999999)
        for name in (
            "weight_decay",
            "warmup_steps",
            "learning_rate_self_attention",
            "learning_rate_cross_attention",
        ):
            if getattr(self, name) is not None:
                at_least(f"training.{name}", getattr(self, name), 0)
        for name in ("rank_text_encoder", "rank_self_attention", "rank_cross_attention"):
            if getattr(self, name) is not None:
                between(f"training.{name}", getattr(self, name), 1, 4096)
        above("training.lora_plus_ratio", self.lora_plus_ratio, 0)
        if self.min_snr_gamma is not None:
            above("training.min_snr_gamma", self.min_snr_gamma, 0)
        if self.optimizer == "adam" and self.weight_decay:
            raise InputError(
                "training.weight_decay is for training.optimizer=adamw", "weight_decay"
            )
        if self.optimizer == "prodigy" and self.lora_plus_ratio != 1:
            raise InputError(
                "training.optimizer=prodigy has one rate for all: leave training.lora_plus_ratio",
                "lora_plus_ratio",
            )
        if self.optimizer == "schedulefree" and self.schedule not in (None, "constant"):
            raise InputError(
                f"training.optimizer=schedulefree takes no training.schedule={self.schedule}",
                "schedule",
            )
        if not (self.learning_rate_embeddings or any(self.learning_rates)):
            raise InputError("every training.learning_rate_... is 0: nothing would be learned")

    @property
    def learning_rates(self) -> tuple[float, float, float]:
        """Of the LoRA on the text encoder, on self-attention and on cross-attention."""
        own = (self.learning_rate_self_attention, self.learning_rate_cross_attention)
        of_self, of_cross = (self.learning_rate_unet if rate is None else rate for rate in own)
        return self.learning_rate_text_encoder, of_self, of_cross

    def _check_validation(self) -> None:
        share("training.validation", self.validation, 0.5)
        for name in ("validate_every_steps", "patience"):
            if getattr(self, name) is not None:
                between(f"training.{name}", getattr(self, name), 1, MOST_STEPS)
        if self.validation == 0 and self.keep == "best":
            raise InputError("training.keep=best needs a loss to go by: training.validation=0.15")
        if self.validation == 0 and self.patience is not None:
            raise InputError("training.patience needs a loss to go by: training.validation=0.15")
