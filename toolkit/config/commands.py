"""From a command's arguments to its checked config."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from toolkit.concept.stored import CONES2, ED_LORA
from toolkit.config.arguments import (
    concept_name,
    concept_names,
    existing_file,
    judge_names,
    layout_files,
    layout_names,
    method_names,
    names,
    seeds,
    split_arguments,
    take_first,
)
from toolkit.config.groups import compose_groups
from toolkit.config.keys import keys_of
from toolkit.config.lookup import (
    base_name,
    choices,
    config_for,
    find_base,
    find_config,
    find_dataset,
)
from toolkit.config.method import build_method, named_by_switches
from toolkit.config.recipes import RECIPES, build_training
from toolkit.config.schema import (
    ComposeConfig,
    ConceptsConfig,
    EvaluateConfig,
    ExportConfig,
    Format,
    FuseConfig,
    ImportConfig,
    InspectConfig,
    LayoutsConfig,
    OtherPictures,
    RateConfig,
    SampleConfig,
    TrainConfig,
    UiConfig,
)
from toolkit.config.trainer import check_trainer_argument, trainer_arguments
from toolkit.config.values import build, parse
from toolkit.errors import InputError
from toolkit.files import from_home
from toolkit.methods import Method
from toolkit.methods.paint_by_example import PaintByExample
from toolkit.names import check_folder_name
from toolkit.text.suggest import nearest
from toolkit.text.yaml_values import read_scalar


@dataclass(frozen=True)
class Own:
    """A key that is read in a way of its own: to which field, how, and what it means."""

    field: str
    read: Callable[[object], object]
    meaning: str


@dataclass(frozen=True)
class Shape:
    """What a command takes.

    config: its file in `configs/`.
    schema: what it is read into.
    groups: the groups that are composed for it.
    own: keys that are not simply a field of the schema.
    positional: fields that the first argument gives, without a key.
    named: sections whose keys are names that the person chooses, as pictures.NAME=FOLDER: how a
        name is shown, and what the key means.
    before: keys that the command takes before the others are read, with their meanings.
    """

    config: str
    schema: type
    groups: tuple[str, ...]
    own: Mapping[str, Own] = field(default_factory=dict)
    positional: frozenset[str] = frozenset()
    named: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)

    def typed_keys(self) -> dict[str, str]:
        """Every key that may be typed but groups and the trainer's, with its meaning."""
        hidden = {own.field for own in self.own.values()} | self.positional | {"concept.name"}
        hidden |= self.named.keys()
        keys = {name: own.meaning for name, own in self.own.items()} | dict(self.before)
        keys |= {f"{name}.{shown}": meaning for name, (shown, meaning) in self.named.items()}
        return keys | {
            name: key.meaning
            for name, key in keys_of(self.schema).items()
            if name not in hidden and name not in self.groups
        }


PAINTER = Own("painter", str, "Paint by Example's checkpoint: a diffusers folder or hub id")
PICTURES = {
    "pictures": ("NAME", "a folder of LAYOUT/SEED.png that another program made, as NAME's")
}
SEEDS = Own("seeds", seeds, "8 means 0 to 7; [7,11] means those two")

TRAIN = Shape("train", TrainConfig, ("concept", "recipe", "model", "trainer", "logger"))
COMPOSE = Shape(
    "compose",
    ComposeConfig,
    ("model", "method", "trainer", "logger"),
    {
        "layout": Own("layouts", layout_files, "names of configs/layout or files, with commas"),
        "layouts": Own("layouts_file", existing_file, "a .jsonl file, one layout a line"),
        "seeds": SEEDS,
        "painter.path": PAINTER,
    },
)
EVALUATE = Shape(
    "evaluate",
    EvaluateConfig,
    ("model", "trainer", "logger"),
    {
        "layout": COMPOSE.own["layout"],
        "layouts": COMPOSE.own["layouts"],
        "seeds": SEEDS,
        "painter.path": PAINTER,
        "methods": Own("methods", method_names, "names of configs/method, with commas"),
        "judge": Own(
            "judges",
            judge_names,
            "clip, dinov2, mini, imagenet, clean or a CLIP's or DINOv2's path, with commas",
        ),
    },
    named=PICTURES,
    before={"protocol": "whole tables, as a name of configs/protocol says"},
)
LAYOUTS = Shape(
    "layouts",
    LayoutsConfig,
    ("model",),
    {key: COMPOSE.own[key] for key in ("layout", "layouts", "seeds")},
)
SAMPLE = Shape(
    "sample",
    SampleConfig,
    ("model", "trainer"),
    {
        "concept": Own("concept", concept_name, "the trained concept to show"),
        "seeds": SEEDS,
    },
)

IMPORT = Shape(
    "import",
    ImportConfig,
    ("model",),
    {"concept": Own("name", concept_name, "the name it is given: it then answers to <NAME>")},
    frozenset({"file"}),
)
EXPORT = Shape("export", ExportConfig, ("model",), positional=frozenset({"concept"}))
CONCEPTS = Shape("concepts", ConceptsConfig, ())
INSPECT = Shape("inspect", InspectConfig, (), positional=frozenset({"file"}))
FUSE = Shape(
    "fuse",
    FuseConfig,
    ("model", "trainer"),
    {"concepts": Own("concepts", concept_names, "the concepts to fuse, with commas")},
)
UI = Shape("ui", UiConfig, ("model",))
RATE = Shape(
    "rate",
    RateConfig,
    ("model",),
    {
        "layout": Own("layouts", layout_names, "names of layouts, with commas; all by default"),
        "methods": EVALUATE.own["methods"],
    },
    named=PICTURES,
)

_SECTIONS = {ED_LORA: "training", CONES2: "cones2"}
"""In a model's file: what that base needs of a recipe's keys."""
_HINTS = {
    "concept": "; for your own: concept.images=FOLDER concept.class_word=WORD",
    "model": "; any other base: model.path=FOLDER_FILE_OR_HUB_ID",
}


def read_train(arguments: Sequence[str]) -> list[TrainConfig]:
    """One config for each concept that `concept=` names."""
    typed = split_arguments(arguments)
    _check_keys(TRAIN, typed)
    if "concept" not in typed:
        raise InputError(f"say what to train: concept=NAME ({_listed('concept')})")
    concepts = names(typed["concept"], "concept")
    if len(concepts) > 1 and "concept.images" in typed:
        raise InputError(f"concept.images is for one concept, got {', '.join(concepts)}")
    return [_train_config(typed | {"concept": name}) for name in concepts]


def read_compose(arguments: Sequence[str]) -> ComposeConfig:
    """The config of a batch of layouts."""
    typed = split_arguments(arguments)
    content = _read(COMPOSE, typed)
    if ("layouts" in content) == ("layouts_file" in content):
        raise InputError(
            f"say what to compose: layout=NAME or layouts=FILE.jsonl ({_listed('layout')})"
        )
    switched = any(key.startswith("method.") for key in typed)
    if switched and "method.name" not in typed:
        of_file = composed(COMPOSE, _chosen(COMPOSE, typed))["method"]
        method = named_by_switches(content["method"], of_file, typed)
    else:
        method = build_method(content["method"])
    painter = _painter(content)
    if painter is not None and not isinstance(method, PaintByExample):
        raise InputError(f"painter.path is for method=paint_by_example, not {method.name}")
    return build(ComposeConfig, content | {"method": _with_painter(method, painter)})


def read_evaluate(arguments: Sequence[str]) -> EvaluateConfig:
    """The config of a comparison of methods."""
    typed = split_arguments(arguments)
    content = _with_layouts(_read(EVALUATE, typed), typed, "compare on")
    chosen = {"model": typed["model"]} if "model" in typed else {}
    painter = _painter(content)
    methods = []
    for name in content.get("methods", ()):
        _check_choice("method", name)
        method = build_method(composed(COMPOSE, chosen | {"method": name})["method"])
        methods.append(_with_painter(method, painter))
    return build(EvaluateConfig, content | {"methods": methods, "pictures": _pictures(content)})


def _pictures(content: Mapping[str, Any]) -> list[OtherPictures]:
    """What `pictures.NAME=FOLDER` says."""
    given = content.get("pictures") or {}
    return [OtherPictures(str(name), from_home(str(folder))) for name, folder in given.items()]


def read_layouts(arguments: Sequence[str]) -> LayoutsConfig:
    """The config of writing layouts for other programs."""
    what, others = take_first(arguments, "word export")
    if what != "export":
        raise InputError(f"toolkit layouts {what}: it knows export (nearest: export)")
    typed = split_arguments(others)
    return build(LayoutsConfig, _with_layouts(_read(LAYOUTS, typed), typed, "export"))


def _with_layouts(
    content: dict[str, Any], typed: Mapping[str, str], purpose: str
) -> dict[str, Any]:
    """The content with one source of layouts: a file of them takes the place of the default's."""
    if "layouts" in typed and "layout" not in typed:
        content.pop("layouts", None)
    if ("layouts" in content) == ("layouts_file" in content):
        raise InputError(
            f"say what to {purpose}: layout=NAME or layouts=FILE.jsonl ({_listed('layout')})"
        )
    return content


def _painter(content: dict[str, Any]) -> str | None:
    """What `painter.path` says, taken out of the content."""
    section = content.pop("painter", None) or {}
    return None if section.get("path") is None else str(from_home(str(section["path"])))


def _with_painter(method: Method, painter: str | None) -> Method:
    if painter is None or not isinstance(method, PaintByExample):
        return method
    return replace(method, painter=painter)


def read_sample(arguments: Sequence[str]) -> SampleConfig:
    """The config of pictures of one concept alone."""
    content = _read(SAMPLE, split_arguments(arguments))
    if "concept" not in content:
        raise InputError("say which concept: concept=NAME (toolkit concepts lists what is trained)")
    content.setdefault("prompt", f"<{content['concept']}>")
    for side in ("width", "height"):
        if side in content["model"]:
            content.setdefault(side, content["model"][side])
    return build(SampleConfig, content)


def read_import(arguments: Sequence[str]) -> ImportConfig:
    """The config of reading one file that others made."""
    file, others = take_first(arguments, "file to import")
    if not from_home(file).exists():
        raise InputError(f"there is no file {file}")
    content = _read(IMPORT, split_arguments(others))
    if "name" not in content:
        raise InputError("say how the concept is to be called: concept=NAME")
    return build(ImportConfig, content | {"file": from_home(file)})


def read_export(arguments: Sequence[str]) -> ExportConfig:
    """The config of writing one concept for other programs."""
    name, others = take_first(arguments, "concept's name")
    typed = split_arguments(others)
    if "format" not in typed:
        raise InputError(f"say which format: format={'|'.join(Format)}")
    return build(ExportConfig, _read(EXPORT, typed) | {"concept": name})


def read_fuse(arguments: Sequence[str]) -> FuseConfig:
    """The config of making one set of weights of several concepts."""
    content = _read(FUSE, split_arguments(arguments))
    if "concepts" not in content:
        raise InputError(
            "say which concepts: concepts=ONE,TWO (toolkit concepts lists what is trained)"
        )
    return build(FuseConfig, content)


def read_ui(arguments: Sequence[str]) -> UiConfig:
    """The config of the page on which layouts are drawn."""
    return build(UiConfig, _read(UI, split_arguments(arguments)))


def read_rate(arguments: Sequence[str]) -> RateConfig:
    """The config of the page on which pictures are rated."""
    content = _read(RATE, split_arguments(arguments))
    return build(RateConfig, content | {"pictures": _pictures(content)})


def read_concepts(arguments: Sequence[str]) -> ConceptsConfig:
    """The config of listing what is trained and imported."""
    typed = split_arguments(arguments)
    _check_keys(CONCEPTS, typed)
    return build(ConceptsConfig, typed)


def read_inspect(arguments: Sequence[str]) -> InspectConfig:
    """The config of telling about one file."""
    file, others = take_first(arguments, "file to inspect")
    typed = split_arguments(others)
    _check_keys(INSPECT, typed)
    return build(InspectConfig, typed | {"file": from_home(file)})


def composed(shape: Shape, chosen: Mapping[str, str]) -> dict[str, Any]:
    """What the config files say for `chosen` groups; a model's own sections come last."""
    content, choice_of = compose_groups(shape.config, chosen)
    model = content.setdefault("model", {})
    brought = {
        section: model.pop(section, None) or {}
        for section in (*_SECTIONS.values(), "sampling", "method")
    }
    if "recipe" in shape.groups:
        settings = content.get("recipe") or {}
        content["recipe"] = recipe = settings.pop("kind", ED_LORA)
        if recipe not in RECIPES:
            raise InputError(f"recipe.kind={recipe}: expected one of {', '.join(RECIPES)}")
        brought["training"] = {**settings, **brought[_SECTIONS[recipe]]}
    for section in {one.name for one in fields(shape.schema)} & set(brought):
        content[section] = {**(content.get(section) or {}), **brought[section]}
    for group in ("model", "method"):
        if group in shape.groups:
            content[group].setdefault("name", choice_of.get(group))
    return content


def _train_config(typed: Mapping[str, str]) -> TrainConfig:
    name = typed["concept"]
    has_file = name in choices("concept")
    if not has_file and "concept.images" not in typed:
        _check_choice("concept", name)
    content = _read(
        TRAIN, typed if has_file else {k: v for k, v in typed.items() if k != "concept"}
    )
    concept = content.get("concept") or {}
    content["concept"] = {"name": name, **concept}
    if "images" in concept:
        content["concept"]["images"] = find_dataset(Path(concept["images"]))
    recipe = content.pop("recipe")
    return build(TrainConfig, content | {"training": build_training(recipe, content["training"])})


def content_of(shape: Shape, typed: Mapping[str, str]) -> dict[str, Any]:
    """The config files' content with what was typed put over it.

    Raises InputError for an unknown key or choice, and for a value of another type.
    """
    _check_keys(shape, typed)
    chosen = _chosen(shape, typed)
    for group, name in chosen.items():
        _check_choice(group, name)
    content = composed(shape, chosen)
    _put_typed(shape, typed, content)
    model = content["model"]
    if "model.path" in typed and "model.name" not in typed:
        model["name"] = base_name(typed["model.path"])
    return content


def _read(shape: Shape, typed: Mapping[str, str]) -> dict[str, Any]:
    """The same, with the command's own keys read, and the base found."""
    content = content_of(shape, typed)
    content |= {
        own.field: own.read(content.pop(name))
        for name, own in shape.own.items()
        if content.get(name) is not None
    }
    model = content["model"]
    if isinstance(model.get("path"), str):
        model["path"] = find_base(model["path"])
    return content


def _chosen(shape: Shape, typed: Mapping[str, str]) -> dict[str, str]:
    """The groups that were chosen; a base that is given by its path begins as its family does."""
    chosen = {group: typed[group] for group in shape.groups if group in typed}
    if "model.path" not in typed or "model" in chosen:
        return chosen

    from toolkit.backbones.source import family_at  # with the hub's client, which is slow to import

    return {"model": config_for(family_at(str(from_home(typed["model.path"])))), **chosen}


def _put_typed(shape: Shape, typed: Mapping[str, str], content: dict[str, Any]) -> None:
    keys = keys_of(shape.schema)
    for name, text in typed.items():
        section, _, last = name.rpartition(".")
        if name.partition(".")[0] in shape.named:  # whose names may hold dots
            section, _, last = name.partition(".")
        if name in shape.groups or name in shape.before:
            continue
        value: object = text
        if section == "trainer":
            value = read_scalar(text)
        elif section not in shape.named and name not in shape.own:
            value = parse(text, keys[name].annotation, name)
        into = content
        if section:
            into = content[section] = content.get(section) or {}
        into[last] = value


def _check_keys(shape: Shape, typed: Mapping[str, str]) -> None:
    known = [*shape.groups, *shape.typed_keys()]
    for key in typed:
        if key.startswith("trainer.") and "trainer" in shape.groups:
            check_trainer_argument(key.removeprefix("trainer."))
        elif "." in key and key.partition(".")[0] in shape.named:
            check_folder_name(key, key.partition(".")[2])
        elif key in ("width", "height") and shape is COMPOSE:
            raise InputError(f"unknown key {key}: how large a picture is stands in its layout")
        elif key not in known:
            if "trainer" in shape.groups:
                known += [f"trainer.{name}" for name in trainer_arguments()]
            raise InputError(f"unknown key {key} ({nearest(key, known)})")


def _check_choice(group: str, name: str) -> None:
    try:
        find_config(group, name)
    except InputError as error:
        raise InputError(f"{error}{_HINTS.get(group, '')}") from error


def _listed(group: str) -> str:
    return f"there are: {', '.join(choices(group))}"
