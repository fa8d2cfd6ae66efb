"""The typed configs. Defaults stand here; the files in `configs/` say only what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from toolkit.backbones.identity import overrides_of
from toolkit.config.learning import LearningConfig
from toolkit.config.limits import LARGEST_SEED
from toolkit.config.limits import at_least as _at_least
from toolkit.config.limits import between as _between
from toolkit.config.sampling import ComposingConfig as ComposingConfig
from toolkit.config.sampling import SamplingConfig as SamplingConfig
from toolkit.config.training import TrainingConfig as TrainingConfig
from toolkit.errors import InputError, shortened, within
from toolkit.methods import Method
from toolkit.names import LONGEST_NAME, check_folder_name, check_name


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
    offload: bool = False
    """Text encoders and autoencoder wait in main memory until used; in training the latter."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """The weights' type; null follows trainer.precision."""
    compile: bool = False
    """Compile denoising passes: the first picture waits for it, the others gain, on a GPU."""

    @property
    def size(self) -> tuple[int, int]:
        """The width and height that the base was trained at."""
        return self.width, self.height

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
    training: LearningConfig
    sampling: SamplingConfig
    trainer: TrainerConfig
    logger: LoggerConfig


@dataclass(frozen=True)
class ComposeConfig(Folders):
    """What `toolkit compose` does. Either `layouts` or `layouts_file` is given."""

    model: ModelConfig
    method: Method
    sampling: ComposingConfig
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
            check_folder_name("method.name", self.method_name)
        self.sampling.check(self.method)
        if self.batch_size is not None:
            _at_least("batch_size", self.batch_size, 1)

    @property
    def method_name(self) -> str:
        """METHOD in the paths of results."""
        return self.method.name + self.sampling.in_name

    @property
    def first(self) -> "ComposeConfig":
        """The same without second passes: how the pictures are made that those begin with."""
        return replace(self, sampling=self.sampling.without)


@dataclass(frozen=True)
class OtherPictures:
    """Pictures that another program made, compared as one more method's.

    folder: holds LAYOUT/SEED.png.
    """

    name: str
    folder: Path

    def __post_init__(self) -> None:
        check_folder_name(f"pictures.{shortened(self.name)}", self.name)

    def check_beside(self, methods: Sequence[str]) -> None:
        """Raise InputError where one of these methods is called the same."""
        if self.name in methods:
            raise InputError(
                f"pictures.{self.name}: a method that is compared is called so: take another name",
                "pictures",
            )


@dataclass(frozen=True)
class EvaluateConfig(Folders):
    """What `toolkit evaluate` does. Either `layouts` or `layouts_file` is given."""

    model: ModelConfig
    sampling: ComposingConfig
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
        self._check_second_passes()
        if not self.methods and not self.pictures:
            raise InputError("methods=: name at least one, or give pictures.NAME=FOLDER", "methods")
        for pictures in self.pictures:
            pictures.check_beside([method.name for method in self.methods])

    def _check_second_passes(self) -> None:
        """Raise InputError for what knows first pictures only."""
        if not self.sampling.is_asked:
            return
        for key, asked in (
            ("judge=clean", "clean" in self.judges),
            ("cost=true", self.cost),
            ("methods=[]", not self.methods),
        ):
            if asked:
                raise InputError(f"{key} knows no second passes: leave out {self.sampling.asked}")

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
    pictures: tuple[OtherPictures, ...] = ()
    """Other programs' pictures of the same layouts, shown among them."""
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
        for pictures in self.pictures:
            pictures.check_beside(self.methods)
        if not self.methods or len(set(self.methods)) + len(self.pictures) < 2:
            raise InputError(
                f"methods={','.join(self.methods)}: name two or more, to be held against each "
                "other",
                "methods",
            )


def _check_address(host: str, port: int) -> None:
    _between("port", port, 0, 65535)
    if not host or not all(c.isalnum() or c in ".:-" for c in host):
        raise InputError(f"host={shortened(host)}: give an address, as 0.0.0.0", "host")


def _check_not_tensorboard(logger: LoggerConfig) -> None:
    if logger.kind == "tensorboard":
        raise InputError("logger=tensorboard is for training; here csv, wandb or none", "logger")
