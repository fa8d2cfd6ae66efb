"""The typed configs. Defaults stand here; the files in `configs/` say only what differs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from toolkit.backbones.identity import overrides_of
from toolkit.errors import InputError, shortened, within
from toolkit.methods import Method
from toolkit.names import LONGEST_NAME, check_folder_name, check_name

LARGEST_SEED = 2**63 - 1
"""What torch and the manifest's columns hold."""
_MOST_STEPS = 10_000_000  # more is a slip of the keys: a year on the fastest GPU


class Format(StrEnum):
    """The formats that a concept can be written in."""

    DIFFUSERS = "diffusers"
    KOHYA = "kohya"
    MIX_OF_SHOW = "mix_of_show"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What its files may end in; the first is usual."""
        if self is Format.MIX_OF_SHOW:
            return (".pth", ".pt", ".bin", ".ckpt")
        return (".safetensors",)


class FusionSolver(StrEnum):
    """How the fusion solves one linear map."""

    CLOSED_FORM = "closed_form"
    LBFGS = "lbfgs"


class FusionScheduler(StrEnum):
    """How the fusion samples a concept's picture: as Mix-of-Show, or as its research code."""

    DPM = "dpm"
    DDIM = "ddim"


@dataclass(frozen=True)
class ModelConfig:
    """The base: which weights, and how to hold them."""

    name: str
    """MODEL in the paths of results."""
    path: str
    """A diffusers folder, a single .safetensors file, or a hub id."""
    guidance_downscale: int | None = None
    """Latent pixels per cell of the map that the constraints read; null: the base's own."""
    guidance_layers: tuple[int, ...] | None = None
    """Which transformers of that map are read, counted from 0 (docs/families.md); null: all."""
    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    """What the base predicts, where its files say it wrongly; null: what they say."""
    width: int = 512
    """Pixels the base was trained at."""
    height: int = 512
    """Pixels the base was trained at."""
    gradient_checkpointing: bool = False
    """Less memory for more time, in training."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """The weights' type; null follows trainer.precision."""
    compile: bool = False
    """Compile denoising passes: the first picture waits for it, the others gain, on a GPU."""

    @property
    def overrides(self) -> str:
        """What was set of how the base is read, as its identity has it."""
        return overrides_of(self.prediction_type, self.guidance_layers)

    def __post_init__(self) -> None:
        too_long = len(self.name.encode()) > LONGEST_NAME
        if not self.name or "/" in self.name or self.name in (".", "..") or too_long:
            raise InputError(
                f"model.name={shortened(self.name)}: cannot be the name of a folder", "name"
            )
        if self.guidance_downscale is not None:
            _at_least("model.guidance_downscale", self.guidance_downscale, 1)
        _at_least("model.width", self.width, 1)
        _at_least("model.height", self.height, 1)


@dataclass(frozen=True)
class ConceptConfig:
    """One concept to learn, and where its images are."""

    name: str
    """The concept's name: <NAME> in prompts."""
    images: Path
    """The folder of its images, with captions and masks where there are any."""
    class_word: str
    """What it is, in a word the base knows."""

    def __post_init__(self) -> None:
        with within("name"):
            check_name("concept", self.name)
        if not self.class_word.strip():
            raise InputError("concept.class_word is empty: say what it is, as dog", "class_word")
        if set(self.class_word) & set("<>"):
            raise InputError(
                f"concept.class_word={self.class_word}: a word without < and >, as dog",
                "class_word",
            )


@dataclass(frozen=True)
class TrainingConfig:
    """Stage one. The defaults suit Stable Diffusion."""

    steps: int = 800
    """Optimiser steps."""
    batch_size: int = 4
    """Images per step and device."""
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
    seed: int = 0
    """Of everything random in training."""
    mask_loss: bool = True
    """Take the loss inside the masks, for images that have one."""
    attention_regularisation: float = 0.0
    """Weight of holding the tokens' attention to the masks."""
    max_embedding_norm: float | None = 0.55
    """Embeddings stop training at this norm; null: never."""
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
    buckets: bool = False
    """Train each image in a size of its own shape, instead of cutting all to the base's."""
    max_upscale: float = 2.0
    """By how much buckets may enlarge an image at most; 1: not at all."""
    cache: Literal["memory", "disk"] = "memory"
    """Where encoded images are kept; disk keeps them for the next training too."""
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
    max_grad_norm: float | None = None
    """Scale gradients down to this norm; null: never."""
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
        for name in ("steps", "checkpoint_every_steps"):
            _between(f"training.{name}", getattr(self, name), 1, _MOST_STEPS)
        if self.max_embedding_norm is not None:
            _at_least("training.max_embedding_norm", self.max_embedding_norm, 0)
        for name in ("batch_size", "rank"):
            _between(f"training.{name}", getattr(self, name), 1, 4096)
        for name in (
            "learning_rate_text_encoder",
            "learning_rate_unet",
            "learning_rate_embeddings",
            "noise_offset",
            "prior_weight",
            "keep_tags",
            "attention_regularisation",
            "sample_every_steps",
        ):
            _at_least(f"training.{name}", getattr(self, name), 0)
        _between("training.seed", self.seed, 0, LARGEST_SEED)
        _at_least("training.max_upscale", self.max_upscale, 1)
        _share("training.caption_dropout", self.caption_dropout, 1)
        self._check_optimisation()
        self._check_validation()

    def _check_optimisation(self) -> None:
        _share("training.ema_decay", self.ema_decay, 0.999999)
        for name in (
            "weight_decay",
            "warmup_steps",
            "learning_rate_self_attention",
            "learning_rate_cross_attention",
        ):
            if getattr(self, name) is not None:
                _at_least(f"training.{name}", getattr(self, name), 0)
        for name in ("rank_text_encoder", "rank_self_attention", "rank_cross_attention"):
            if getattr(self, name) is not None:
                _between(f"training.{name}", getattr(self, name), 1, 4096)
        for name in ("lora_plus_ratio", "min_snr_gamma", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"training.{name} must be above 0, got {value}", name)
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
        _share("training.validation", self.validation, 0.5)
        for name in ("validate_every_steps", "patience"):
            if getattr(self, name) is not None:
                _between(f"training.{name}", getattr(self, name), 1, _MOST_STEPS)
        if self.validation == 0 and self.keep == "best":
            raise InputError("training.keep=best needs a loss to go by: training.validation=0.15")
        if self.validation == 0 and self.patience is not None:
            raise InputError("training.patience needs a loss to go by: training.validation=0.15")


@dataclass(frozen=True)
class SamplingConfig:
    """How a picture is denoised."""

    steps: int = 50
    """Denoising steps."""
    guidance_scale: float = 7.5
    """Classifier-free guidance."""

    def __post_init__(self) -> None:
        _between("sampling.steps", self.steps, 1, 1000)


@dataclass(frozen=True)
class LoggerConfig:
    """Where measurements and pictures are logged."""

    kind: Literal["csv", "wandb", "tensorboard", "none"] = "csv"
    """csv: files only; wandb: a W&B run too; tensorboard: only in training; none: no log."""
    project: str = "lora-composer-toolkit"
    """The W&B project."""
    max_images: int = 64
    """Pictures logged in one run, at most."""

    def __post_init__(self) -> None:
        _at_least("logger.max_images", self.max_images, 0)
        if not 0 < len(self.project) <= 128 or set(self.project) & set("/\\#?%:"):
            raise InputError(
                f"logger.project={self.project}: W&B takes 1 to 128 characters, without /\\#?%:",
                "project",
            )


@dataclass(frozen=True)
class TrainerConfig:
    """Arguments for `lightning.Trainer`, by name."""

    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where a command reads and writes."""

    output_dir: Path = Path("outputs")
    """Where everything is written."""
    concepts_dir: Path | None = None
    """Where concepts are kept, in a folder for each base; null: concepts in output_dir."""

    @property
    def concepts_folder(self) -> Path:
        """The folder of concepts, trained and imported."""
        return self.concepts_dir or self.output_dir / "concepts"


@dataclass(frozen=True)
class TrainConfig(Folders):
    """What `toolkit train` does for one concept."""

    concept: ConceptConfig
    model: ModelConfig
    training: TrainingConfig
    sampling: SamplingConfig
    trainer: TrainerConfig
    logger: LoggerConfig


@dataclass(frozen=True)
class ComposeConfig(Folders):
    """What `toolkit compose` does. Either `layouts` or `layouts_file` is given."""

    model: ModelConfig
    method: Method
    sampling: SamplingConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    layouts: tuple[Path, ...] = ()
    layouts_file: Path | None = None
    seeds: tuple[int, ...] = (0,)
    batch_size: int | None = None
    """Pictures made at once; null: as many as a GPU's free memory holds, and 1 on a CPU."""
    overwrite: bool = False
    """Make everything anew, also what is there and whole."""
    strict: bool = False
    """Start nothing when a line of the layouts file is wrong."""
    figures: bool = True
    """Also save the attention maps and the loss curve of each picture."""
    keep_earlier: bool = True
    """What a picture that is made anew stands in place of goes to earlier/ beside it."""
    provenance: bool = True
    """Write into each PNG what it was made from."""

    def __post_init__(self) -> None:
        _check_not_tensorboard(self.logger)
        with within("method.name"):
            check_folder_name("method.name", self.method.name)
        if self.batch_size is not None:
            _at_least("batch_size", self.batch_size, 1)

    @property
    def method_name(self) -> str:
        """METHOD in the paths of results."""
        return self.method.name


@dataclass(frozen=True)
class OtherPictures:
    """Pictures that another program made, compared as one more method's.

    folder: holds LAYOUT/SEED.png.
    """

    name: str
    folder: Path

    def __post_init__(self) -> None:
        check_folder_name(f"pictures.{shortened(self.name)}", self.name)


@dataclass(frozen=True)
class EvaluateConfig(Folders):
    """What `toolkit evaluate` does. Either `layouts` or `layouts_file` is given."""

    model: ModelConfig
    sampling: SamplingConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    methods: tuple[Method, ...]
    """What is compared; differences are counted from the first."""
    pictures: tuple[OtherPictures, ...] = ()
    """Made by other programs, and compared with the methods."""
    skip_missing: bool = False
    """Score what there is of pictures that other programs made, when some are missing."""
    layouts: tuple[Path, ...] = ()
    layouts_file: Path | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    judges: tuple[str, ...] = ()
    """Who judges; empty: the base's own scorer where it has one, else CLIP."""
    resamples: int = 2000
    """Bootstrap resamples of each interval."""
    cost: bool = False
    """Also count kernels and memory: each method makes one picture more, slowly."""
    batch_size: int | None = None
    """Pictures made at once; null: as many as a GPU's free memory holds, and 1 on a CPU."""

    def __post_init__(self) -> None:
        _check_not_tensorboard(self.logger)
        _at_least("resamples", self.resamples, 1)
        if not self.methods and not self.pictures:
            raise InputError("methods=: name at least one, or give pictures.NAME=FOLDER", "methods")
        names = [method.name for method in self.methods]
        for pictures in self.pictures:
            if pictures.name in names:
                raise InputError(
                    f"pictures.{pictures.name}: a method that is compared is called so: take "
                    "another name",
                    "pictures",
                )

    @property
    def one_device(self) -> TrainerConfig:
        """Where pictures are composed and judged."""
        one = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        return TrainerConfig({**self.trainer.arguments, **one})

    @property
    def compositions(self) -> tuple[ComposeConfig, ...]:
        """What must have been composed before it can be scored, a config for each method."""
        return tuple(
            ComposeConfig(
                model=self.model,
                method=method,
                sampling=self.sampling,
                trainer=self.one_device,
                logger=LoggerConfig(kind="none"),
                layouts=self.layouts,
                layouts_file=self.layouts_file,
                seeds=self.seeds,
                batch_size=self.batch_size,
                strict=True,
                figures=False,
                output_dir=self.output_dir,
                concepts_dir=self.concepts_dir,
            )
            for method in self.methods
        )


@dataclass(frozen=True)
class LayoutsConfig(Folders):
    """What `toolkit layouts export` does. Either `layouts` or `layouts_file` is given."""

    model: ModelConfig
    layouts: tuple[Path, ...] = ()
    layouts_file: Path | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    format: Literal["json"] = "json"
    """What is written: docs/evaluation.md describes it."""
    out: Path | None = None
    """The file to write; null: outputs/layouts.json."""

    def __post_init__(self) -> None:
        if self.out is not None and (self.out.is_dir() or self.out.suffix.lower() != ".json"):
            raise InputError(f"out={self.out}: a file that ends in .json is written", "out")

    @property
    def target(self) -> Path:
        """The file that is written."""
        return self.out or self.output_dir / "layouts.json"


@dataclass(frozen=True)
class SampleConfig(Folders):
    """What `toolkit sample` does."""

    concept: str
    prompt: str
    """The picture; <NAME> stands for the concept, and is the default."""
    width: int
    """Pixels; the default is the base's."""
    height: int
    """Pixels; the default is the base's."""
    model: ModelConfig
    sampling: SamplingConfig
    trainer: TrainerConfig
    seeds: tuple[int, ...] = (0,)
    negative_prompt: str = ""
    """What the picture should not show."""

    def __post_init__(self) -> None:
        with within("concept"):
            check_name("concept", self.concept)
        _at_least("width", self.width, 1)
        _at_least("height", self.height, 1)


@dataclass(frozen=True)
class ImportConfig(Folders):
    """What `toolkit import` does."""

    file: Path
    """The file that others made."""
    name: str
    model: ModelConfig
    class_word: str = ""
    """What it is, in a word the base knows."""
    trigger: str = ""
    """The words that call a LoRA without embeddings."""
    embedding: Path | None = None
    """The textual inversion that belongs to a LoRA."""
    rank: int = 64
    """The highest rank kept of a model that holds whole weights."""
    overwrite: bool = False
    """Replace a concept of that name."""

    def __post_init__(self) -> None:
        with within("name"):
            check_name("concept", self.name)
        _at_least("rank", self.rank, 1)


@dataclass(frozen=True)
class ExportConfig(Folders):
    """What `toolkit export` does."""

    concept: str
    model: ModelConfig
    format: Format
    """Which programs it is for."""
    to: Path | None = None
    """The file to write, or a folder for it; null: outputs/exports/MODEL."""

    def __post_init__(self) -> None:
        with within("concept"):
            check_name("concept", self.concept)
        if self.to is None or self.to.is_dir():
            return
        suffixes = self.format.suffixes
        if self.to.suffix.lower() not in suffixes:
            raise InputError(
                f"to={self.to}: a file for format={self.format} ends in {' or '.join(suffixes)}; a "
                "folder must be there already",
                "to",
            )
        above = next(folder for folder in self.to.parents if folder.exists())
        if not above.is_dir():
            raise InputError(f"to={self.to}: {above} is a file and no folder", "to")

    @property
    def target(self) -> Path:
        """The file that is written."""
        if self.to is not None and not self.to.is_dir():
            return self.to
        folder = self.to or self.output_dir / "exports" / self.model.name
        return folder / f"{self.concept}_{self.format}{self.format.suffixes[0]}"


@dataclass(frozen=True)
class ConceptsConfig(Folders):
    """What `toolkit concepts` does."""


@dataclass(frozen=True)
class InspectConfig:
    """What `toolkit inspect` does."""

    file: Path
    """The file to tell about."""


@dataclass(frozen=True)
class FusionConfig:
    """Mix-of-Show's gradient fusion. The defaults are its main branch's, but for the solver."""

    solver: FusionSolver = FusionSolver.CLOSED_FORM
    """closed_form needs little memory; lbfgs is what was published."""
    ridge: float = 1e-5
    """Holds closed_form to the base's weights; 0 is the exact optimum for what was looked at."""
    scheduler: FusionScheduler = FusionScheduler.DPM
    """Samples the picture of each concept that the fusion looks at."""
    steps: int = 20
    """Denoising steps of those pictures; the research code takes 50, with ddim."""
    seed: int = 0
    """Of the noise that those pictures start from."""

    def __post_init__(self) -> None:
        _between("fusion.steps", self.steps, 1, 1000)
        _at_least("fusion.ridge", self.ridge, 0)
        _between("fusion.seed", self.seed, 0, LARGEST_SEED)


@dataclass(frozen=True)
class FuseConfig(Folders):
    """What `toolkit fuse` does."""

    concepts: tuple[str, ...]
    model: ModelConfig
    fusion: FusionConfig
    trainer: TrainerConfig
    name: str | None = None
    """What the fusion is called; null: its concepts' names, joined by _."""
    overwrite: bool = False
    """Make it anew, also when it is there."""

    def __post_init__(self) -> None:
        for concept in self.concepts:
            check_name("concept", concept)
        check_name("name", self.fused_name)
        if self.fused_name in self.concepts:
            raise InputError(
                f"the fusion cannot be called {self.fused_name}, as a concept in it: give it a "
                "name with name="
            )

    @property
    def fused_name(self) -> str:
        """The fusion's name."""
        return self.name or "_".join(self.concepts)


@dataclass(frozen=True)
class UiConfig(Folders):
    """What `toolkit ui` does."""

    model: ModelConfig
    host: str = "127.0.0.1"
    """Where the page is served; another than this machine alone needs the token that is printed."""
    port: int = 8765
    """The page's port; 0: any that is free."""

    def __post_init__(self) -> None:
        _check_address(self.host, self.port)


@dataclass(frozen=True)
class RateConfig:
    """What `toolkit rate` does."""

    model: ModelConfig
    methods: tuple[str, ...]
    """Whose pictures are shown."""
    layouts: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    """Where the page is served; another than this machine alone needs the token that is printed."""
    port: int = 8766
    """The page's port; 0: any that is free."""
    resamples: int = 2000
    """Bootstrap resamples of each interval."""
    output_dir: Path = Path("outputs")
    """Where the pictures are, and the answers go."""

    def __post_init__(self) -> None:
        _check_address(self.host, self.port)
        _at_least("resamples", self.resamples, 1)
        if len(self.methods) < 2:
            raise InputError(
                "methods=: name at least two, to be held against each other", "methods"
            )


def _check_address(host: str, port: int) -> None:
    _between("port", port, 0, 65535)
    if not host or not all(c.isalnum() or c in ".:-" for c in host):
        raise InputError(f"host={shortened(host)}: give an address, as 0.0.0.0", "host")


def _check_not_tensorboard(logger: LoggerConfig) -> None:
    if logger.kind == "tensorboard":
        raise InputError("logger=tensorboard is for training; here csv, wandb or none", "logger")


def _at_least(key: str, value: float, least: int) -> None:
    """key: as it is typed; its last part is the field."""
    if not value >= least:
        raise InputError(f"{key} must be at least {least}, got {value}", key.split(".")[-1])


def _share(key: str, value: float, most: float) -> None:
    """key: as it is typed; its last part is the field."""
    if not 0 <= value <= most:
        raise InputError(
            f"{key} must be at least 0 and at most {most:g}, got {value}", key.split(".")[-1]
        )


def _between(key: str, value: int, least: int, most: int) -> None:
    """key: as it is typed; its last part is the field."""
    if not least <= value <= most:
        raise InputError(
            f"{key} must be at least {least} and at most {most}, got {value}", key.split(".")[-1]
        )
