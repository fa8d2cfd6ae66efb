"""What a protocol asks for, run by run, and what of it is missing: told without torch."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from toolkit.batch.asked import composition_folder
from toolkit.batch.journal import Item, error_of, read_entry
from toolkit.concept.stored import concept_path, images_in
from toolkit.config.arguments import seeds
from toolkit.config.commands import read_evaluate
from toolkit.config.lookup import images_of
from toolkit.config.protocol import Protocol, Row, Setting, Style, Table, read_protocol
from toolkit.config.schema import ComposeConfig, EvaluateConfig
from toolkit.config.untrained import training_commands
from toolkit.errors import InputError
from toolkit.evaluation.asked import check_asked
from toolkit.files import whole_file
from toolkit.layout.files import read_lines
from toolkit.layout.layout import Layout
from toolkit.layout.mapping import layout_to_mapping
from toolkit.methods import Method
from toolkit.text.wording import listed

CONDITIONED = "_conditioned"
"""What the name of a layout ends in where its conditions are used."""
_OWN = ("layout", "layouts", "methods", "judge", "model")
"""Keys that a protocol says itself."""


@dataclass(frozen=True)
class Part:
    """One run of `toolkit evaluate`: layouts of one style that the same methods are asked for."""

    style: Style
    layouts: tuple[Layout, ...]
    config: EvaluateConfig


@dataclass(frozen=True)
class Plan:
    """All runs of a protocol. layouts: by style, those with conditions behind those without."""

    protocol: Protocol
    layouts: Mapping[str, tuple[Layout, ...]]
    parts: tuple[Part, ...]


def make_plan(typed: Mapping[str, str], folder: Path) -> Plan:
    """The runs of `toolkit evaluate protocol=NAME` with what else was typed.

    folder: where the runs' layouts are written to.
    Raises InputError for a key that the protocol says itself, and for what is wrong in its files.
    """
    given = dict(typed)
    protocol = read_protocol(given.pop("protocol"))
    _check_given(protocol, given)
    images = seeds(given.pop("seeds")) if "seeds" in given else tuple(range(protocol.images))
    layouts: dict[str, tuple[Layout, ...]] = {}
    parts = []
    for style in protocol.styles:
        config = None
        for number, setting in enumerate(style.settings):
            own = _layouts(protocol, setting)
            layouts[style.name] = layouts.get(style.name, ()) + own
            for group, (shown, rows) in enumerate(_groups(protocol, style, own)):
                if any(row.method or f"pictures.{row.pictures}" in given for row in rows):
                    file = folder / f"{style.name}_{number}_{group}.jsonl"
                    _write(shown, file)
                    config = config or _whole(protocol, style, file, given)
                    drawn = setting.seeds(max(images) + 1)
                    chosen = [drawn[number] for number in images]
                    parts.append(Part(style, shown, _of_group(config, rows, file, chosen)))
    if not parts:
        raise InputError(f"protocol={protocol.name}: its tables ask for nothing")
    return Plan(protocol, layouts, tuple(parts))


def check_early(typed: Mapping[str, str]) -> Path:
    """Check what `toolkit evaluate protocol=NAME` is asked for; the folder that it will fill.

    Raises InputError as `make_plan` and `check_plan` do; nothing is written.
    """
    with TemporaryDirectory() as folder:
        plan = make_plan(typed, Path(folder))
        check_plan(plan)
    return plan.parts[0].config.output_dir / "evaluation" / plan.protocol.name


def check_plan(plan: Plan) -> str:
    """How many pictures are left, and how long they may take.

    Raises InputError, with that in it, for all that is missing at once, and for what else can be
    told without torch.
    """
    estimate = _estimate(plan)
    missing = [*_missing(plan)]
    if missing:
        raise InputError(
            f"protocol={plan.protocol.name}: {'; '.join(missing)}. With all of it: {estimate}"
        )
    for part in plan.parts:
        check_asked(part.config)
    return estimate


def _check_given(protocol: Protocol, given: Mapping[str, str]) -> None:
    for key in given:
        if key in _OWN:
            raise InputError(
                f"{key}=: protocol={protocol.name} says this itself; to change it, copy its files "
                "to ./configs/protocol",
                key,
            )
        section, _, name = key.partition(".")
        if section == "pictures" and name not in protocol.pictures:
            rows = ", ".join(protocol.pictures) or "none at all"
            raise InputError(
                f"{key}: protocol={protocol.name} has rows of pictures for {rows}", key
            )
    if given.get("logger") == "wandb" or given.get("logger.kind") == "wandb":
        raise InputError("logger=wandb: a protocol leaves files only", "logger")


def _layouts(protocol: Protocol, setting: Setting) -> tuple[Layout, ...]:
    """A setting's layouts with the person's concepts; behind them those with conditions."""
    path = protocol.folder / setting.layouts
    if not path.is_file():
        raise InputError(f"protocol={protocol.name}: there is no file {path}")
    lines = read_lines(path)
    for wrong in lines.rejected:
        raise InputError(f"{path}, line {wrong.line}: {wrong.error}")
    read = [_renamed(layout, protocol.concepts) for layout in lines.layouts.values()]
    plain = [replace(layout, conditions=()) for layout in read]
    conditioned = [
        replace(layout, name=layout.name + CONDITIONED) for layout in read if layout.conditions
    ]
    return (*plain, *conditioned)


def _renamed(layout: Layout, concepts: Mapping[str, str]) -> Layout:
    def in_prompt(prompt: str) -> str:
        return re.sub(r"<([\w-]+?)(\d*)>", lambda m: f"<{concepts.get(m[1], m[1])}{m[2]}>", prompt)

    def name(concept: str) -> str:
        return concepts.get(concept, concept)

    return replace(
        layout,
        prompt=in_prompt(layout.prompt),
        background=name(layout.background) if layout.background else None,
        regions=tuple(
            replace(region, concept=name(region.concept), prompt=in_prompt(region.prompt))
            for region in layout.regions
        ),
    )


def layouts_of(plan: Plan, table: Table, row: Row, style: Style) -> dict[str, Layout]:
    """By name, the layouts of a style that a table's row is about."""
    return {
        layout.name: layout
        for layout in plan.layouts[style.name]
        if layout.name.endswith(CONDITIONED) == row.conditions
        and (not table.concepts or len(layout.concepts) in table.concepts)
    }


def rows_of(protocol: Protocol, style: Style, layout: Layout) -> list[Row]:
    """The rows of all tables that ask for pictures of a layout."""
    conditioned = layout.name.endswith(CONDITIONED)
    return [
        row
        for table in protocol.tables
        if not table.concepts or len(layout.concepts) in table.concepts
        for row in table.rows
        if row.holds_for(style) and row.conditions == conditioned
    ]


def _groups(
    protocol: Protocol, style: Style, layouts: Sequence[Layout]
) -> list[tuple[tuple[Layout, ...], list[Row]]]:
    """Layouts that the same methods and pictures are asked for, together."""
    groups: dict[tuple[tuple[str | None, str | None], ...], list[Layout]] = {}
    asked: dict[tuple[tuple[str | None, str | None], ...], list[Row]] = {}
    for layout in layouts:
        rows = rows_of(protocol, style, layout)
        key = tuple(dict.fromkeys((row.method, row.pictures) for row in rows))
        if key:
            groups.setdefault(key, []).append(layout)
            asked[key] = rows
    return [(tuple(own), asked[key]) for key, own in groups.items()]


def _write(layouts: Sequence[Layout], file: Path) -> None:
    with whole_file(file) as temporary:
        lines = (json.dumps(layout_to_mapping(layout)) for layout in layouts)
        temporary.write_text("\n".join(lines) + "\n")


def _whole(
    protocol: Protocol, style: Style, file: Path, given: Mapping[str, str]
) -> EvaluateConfig:
    """What is asked for on a style's base with all of its methods, on the layouts of one file."""
    rows = [row for table in protocol.tables for row in table.rows if row.holds_for(style)]
    methods = dict.fromkeys(row.method for row in rows if row.method)
    shown = {f"pictures.{row.pictures}" for row in rows if row.pictures}
    typed = {
        **{key: text for key, text in given.items() if not key.startswith("pictures.")},
        **{key: text for key, text in given.items() if key in shown},
        "model": style.model,
        "layouts": str(file),
        "methods": ",".join(methods) or "[]",
        "judge": protocol.judge,
    }
    return read_evaluate([f"{key}={text}" for key, text in typed.items()])


def _of_group(
    whole: EvaluateConfig, rows: Sequence[Row], file: Path, seeds: Sequence[int]
) -> EvaluateConfig:
    """The same, asked for the layouts of `file` with those methods and pictures that rows name."""
    sources = dict.fromkeys(row.source for row in rows)
    methods = {method.name: method for method in whole.methods}
    return replace(
        whole,
        methods=tuple(methods[name] for name in sources if name in methods),
        pictures=tuple(one for one in whole.pictures if one.name in sources),
        layouts_file=file,
        seeds=tuple(seeds),
    )


def _missing(plan: Plan) -> Iterator[str]:
    """What the person has to make or get before anything is composed."""
    for style in plan.protocol.styles:
        config = next((part.config for part in plan.parts if part.style == style), None)
        if config is None:
            continue
        used = [layout for part in plan.parts if part.style == style for layout in part.layouts]
        concepts = dict.fromkeys(name for layout in used for name in layout.concepts)
        folder, base = config.concepts_folder, config.model.name
        without = [
            name for name in concepts if not _has_images(name, concept_path(folder, base, name))
        ]
        if without:
            yield f"no images of {', '.join(without)} (configs/concept/NAME.yaml or datasets/NAME)"
        methods = _methods(plan, style)
        for recipe in dict.fromkeys(method.recipe for method, _ in methods):
            files = {name: concept_path(folder, base, name, recipe) for name in concepts}
            untrained = [name for name, file in files.items() if not file.is_file()]
            if untrained:
                typed = training_commands(untrained, config.model, config, recipe)
                yield f"not trained for {style.name}: {typed}"
        for method, layouts in methods:
            yield from _refused(method, layouts)
    images = dict.fromkeys(
        str(condition.image)
        for part in plan.parts
        for layout in part.layouts
        for condition in layout.conditions
        if not condition.image.is_file()
    )
    if images:
        yield (
            f"no images of conditions: {listed(list(images))} (or leave out the rows with "
            "conditions: true)"
        )


def _methods(plan: Plan, style: Style) -> list[tuple[Method, list[Layout]]]:
    """Each method that is asked for a style's pictures, and of which layouts."""
    found: dict[str, tuple[Method, list[Layout]]] = {}
    for part in plan.parts:
        for method in part.config.methods if part.style == style else ():
            found.setdefault(method.name, (method, []))[1].extend(part.layouts)
    return [*found.values()]


def _refused(method: Method, layouts: Sequence[Layout]) -> Iterator[str]:
    """What a method lacks, as it says of the first layout that it refuses."""
    for layout in layouts:
        try:
            method.check(layout)
        except InputError as error:
            yield str(error)
            return


def _has_images(name: str, file: Path) -> bool:
    try:
        images_of(name, images_in(file))
    except InputError:
        return False
    return True


def _estimate(plan: Plan) -> str:
    """How many pictures there are to make, and the hours they may take."""
    count = left = 0
    seconds = 0.0
    known = False
    for part in plan.parts:
        for composition in part.config.compositions:
            made = [*_made(composition, part.layouts)]
            items = len(part.layouts) * len(composition.seeds)
            mean = sum(made) / len(made) if made else plan.protocol.seconds_per_picture
            known = known or bool(made)
            count += items
            left += items - len(made)
            seconds += mean * (items - len(made))
    source = f"{plan.protocol.seconds_per_picture:g} seconds a picture"
    if known:
        source = f"as long as those that are there took, others {source}"
    return f"{left:,} of {count:,} pictures to compose, about {seconds / 3600:.1f} hours ({source})"


def _made(config: ComposeConfig, layouts: Sequence[Layout]) -> Iterator[float]:
    """The seconds of each finished picture."""
    folder = composition_folder(config)
    for layout in layouts:
        for seed in config.seeds:
            item = Item(layout, seed)
            if error_of(item, folder) is None:
                yield float((read_entry(item.path(folder, ".json")) or {}).get("seconds") or 0.0)
