"""The commands: read the arguments, call what does the work, end with its exit code."""

import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from toolkit.config.arguments import split_arguments
from toolkit.config.commands import (
    COMPOSE,
    CONCEPTS,
    EVALUATE,
    EXPORT,
    FUSE,
    IMPORT,
    INSPECT,
    LAYOUTS,
    RATE,
    SAMPLE,
    TRAIN,
    UI,
    Shape,
    read_compose,
    read_concepts,
    read_evaluate,
    read_export,
    read_fuse,
    read_import,
    read_inspect,
    read_layouts,
    read_rate,
    read_sample,
    read_train,
    read_ui,
)
from toolkit.config.help import describe, describe_groups
from toolkit.config.lookup import choices
from toolkit.errors import InputError, RunError, Stopped, one_line, ran_out_of_memory
from toolkit.files import DISK_IS_FULL
from toolkit.processes import is_first_process
from toolkit.text.suggest import nearest

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

_REPORT = (
    "toolkit: this is a fault of the toolkit, not of your input: please report it, with the "
    "command and the lines below"
)


@dataclass(frozen=True)
class Command:
    """One `toolkit NAME`: what its help says, and what runs it."""

    summary: str
    examples: tuple[str, ...]
    shape: Shape
    run: Callable[[Sequence[str]], int]
    first: str = ""
    """What its first argument is, where that has no key."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0: done, 1: failed while running, 2: wrong input, 130: interrupted."""
    level = logging.INFO if is_first_process() else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter shows its number
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return code
    except InputError as error:
        return _fail(error, WRONG_INPUT)
    except RunError as error:
        return _fail(error, FAILED)
    except BrokenPipeError:
        return _end_quietly()
    except OSError as error:
        if error.filename is None and error.errno not in DISK_IS_FULL:
            print(_REPORT, file=sys.stderr)
            raise
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except Exception as error:
        if ran_out_of_memory(error):
            return _fail(f"not enough memory: {one_line(error)}", FAILED)
        print(_REPORT, file=sys.stderr)
        raise


def _end_quietly() -> int:
    """Whoever read what is printed, such as `head`, has gone: nobody is left to be told."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    return FAILED


def _run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return _show(_overview(), DONE if arguments else WRONG_INPUT)
    if arguments[0] == "--version":
        return _show(version("lora-composer-toolkit"))
    name, *rest = arguments
    if name not in COMMANDS:
        raise InputError(f"unknown command {name!r} ({nearest(name, COMMANDS)})")
    if {"-h", "--help"} & set(rest):
        return _show(_help(name, rest))
    return COMMANDS[name].run(rest)


def _train(arguments: Sequence[str]) -> int:
    configs = read_train(arguments)
    given = [_light("toolkit.training.asked", "check_asked")(config) for config in configs]
    left = []
    for config, folder in zip(configs, given, strict=True):
        path = _light("toolkit.training.asked", "trained_already")(config, folder)
        if path is None:
            left.append((config, folder))
        else:
            _say(f"{config.concept.name}: {path}")
    code = DONE
    for number, (config, folder) in enumerate(left):
        try:
            path = _entry("toolkit.training.run", "train")(config, folder)
        except Stopped:
            raise
        except (InputError, RunError) as error:
            if isinstance(error, InputError) and number == 0:
                raise
            code = _fail(f"{config.concept.name}: {error}", FAILED)
        else:
            _say(f"{config.concept.name}: {path}")
    return code


def _compose(arguments: Sequence[str]) -> int:
    config = read_compose(arguments)
    code: int | None = _light("toolkit.batch.there", "composed_already")(config)
    if code is None:
        code = _entry("toolkit.batch.run", "compose")(config)
    if code == DONE:
        _say(f"pictures: {config.output_dir / 'compose' / config.method_name}")
    return code


def _sample(arguments: Sequence[str]) -> int:
    config = read_sample(arguments)
    code: int | None = _light("toolkit.batch.there", "sampled_already")(config)
    if code is None:
        code = _entry("toolkit.batch.run", "sample")(config)
    if code == DONE:
        _say(f"pictures: {config.output_dir / 'sample' / config.model.name / config.concept}")
    return code


def _evaluate(arguments: Sequence[str]) -> int:
    typed = split_arguments(arguments)
    if "protocol" in typed:
        return _evaluate_protocol(typed)
    config = read_evaluate(arguments)
    _light("toolkit.evaluation.asked", "check_asked")(config)
    code: int = _entry("toolkit.evaluation.run", "evaluate")(config)
    _say(f"scores and figures: {config.output_dir / 'evaluation'}")
    return code


def _evaluate_protocol(typed: Mapping[str, str]) -> int:
    folder = _light("toolkit.evaluation.plan", "check_early")(typed)
    code: int = _entry("toolkit.evaluation.protocol", "evaluate_protocol")(typed, folder)
    _say(f"tables, scores and figures: {folder}")
    return code


def _layouts(arguments: Sequence[str]) -> int:
    config = read_layouts(arguments)
    path = _light("toolkit.evaluation.exported_layouts", "export_layouts")(config)
    _say(f"layouts: {path}")
    return DONE


def _import(arguments: Sequence[str]) -> int:
    config = read_import(arguments)
    _light("toolkit.exchange", "check_import")(config)
    path = _entry("toolkit.exchange", "import_concept")(config)
    _say(f"{config.name}: {path}")
    return DONE


def _export(arguments: Sequence[str]) -> int:
    config = read_export(arguments)
    _light("toolkit.exchange", "check_export")(config)
    written = _entry("toolkit.exchange", "export_concept")(config)
    for path in written.files:
        _say(f"{config.concept}: {path}")
    if written.lost:
        _say(f"not in it: {written.lost}")
    return DONE


def _fuse(arguments: Sequence[str]) -> int:
    config = read_fuse(arguments)
    _light("toolkit.fusion.asked", "check_asked")(config)
    path = _light("toolkit.fusion.asked", "fused_already")(config)
    if path is None:
        path = _entry("toolkit.fusion.run", "fuse_concepts")(config)
    _say(f"{config.fused_name}: {path}")
    return DONE


def _ui(arguments: Sequence[str]) -> int:
    config = read_ui(arguments)
    chosen = [typed for typed in arguments if typed.startswith(("model=", "model."))]
    _light("toolkit.ui.serve", "serve")(config, chosen)
    return DONE


def _rate(arguments: Sequence[str]) -> int:
    _light("toolkit.ui.serve", "serve_rating")(read_rate(arguments))
    return DONE


def _concepts(arguments: Sequence[str]) -> int:
    config = read_concepts(arguments)
    folder = config.concepts_folder
    rows = _light("toolkit.concept.listed", "concepts_in")(folder, config.output_dir / "runs")
    if not rows:
        return _show(f"no concepts in {folder}: toolkit train concept=dog")
    return _show(_light("toolkit.concept.listed", "table")(rows))


def _inspect(arguments: Sequence[str]) -> int:
    config = read_inspect(arguments)
    facts = _light("toolkit.concept.inspected", "inspect_file")(config.file)
    width = max(len(label) for label, _ in facts)
    return _show("\n".join(f"{label:{width}}  {value}" for label, value in facts))


COMMANDS = {
    "train": Command(
        "learn one concept from a folder of images",
        (
            "toolkit train concept=dog,cat",
            "toolkit train concept=rex concept.images=photos/rex concept.class_word=dog",
        ),
        TRAIN,
        _train,
    ),
    "compose": Command(
        "put several trained concepts into one picture, each in its box",
        (
            "toolkit compose layout=scene1 seeds=4",
            "toolkit compose layouts=night.jsonl trainer=ddp trainer.devices=8",
            "toolkit compose layout=mine.yaml method.fill_loss=false",
        ),
        COMPOSE,
        _compose,
    ),
    "evaluate": Command(
        "score compositions against the concepts' images, method by method",
        (
            "toolkit evaluate",
            "toolkit evaluate layout=scene1,scene2 methods=lora_composer,merge judge=mini,imagenet",
            "toolkit evaluate protocol=mini",
        ),
        EVALUATE,
        _evaluate,
    ),
    "layouts": Command(
        "write layouts for other programs, whose pictures toolkit evaluate can score",
        ("toolkit layouts export format=json layout=scene1,scene2 seeds=8 out=layouts.json",),
        LAYOUTS,
        _layouts,
        "export ",
    ),
    "sample": Command(
        "make pictures of one trained concept alone",
        ('toolkit sample concept=dog prompt="<dog> on the beach" seeds=8',),
        SAMPLE,
        _sample,
    ),
    "import": Command(
        "read a LoRA, ED-LoRA or textual inversion that others made",
        (
            "toolkit import rex.pth concept=rex class_word=dog",
            "toolkit import style.safetensors concept=sks trigger='sks dog' model=sd15",
        ),
        IMPORT,
        _import,
        "FILE ",
    ),
    "export": Command(
        "write a trained concept for other programs",
        ("toolkit export dog format=diffusers",),
        EXPORT,
        _export,
        "NAME ",
    ),
    "concepts": Command(
        "list what is trained and imported",
        ("toolkit concepts",),
        CONCEPTS,
        _concepts,
    ),
    "inspect": Command(
        "say what a LoRA file is, for which base, what it changes, what it is called by",
        ("toolkit inspect style.safetensors",),
        INSPECT,
        _inspect,
        "FILE ",
    ),
    "fuse": Command(
        "make one set of weights of several concepts, as Mix-of-Show does",
        (
            "toolkit fuse concepts=dog,cat",
            "toolkit fuse concepts=dog,cat fusion.solver=lbfgs name=published",
        ),
        FUSE,
        _fuse,
    ),
    "ui": Command(
        "open a page on which layouts are drawn and made",
        ("toolkit ui", "toolkit ui model=sd15 port=9000", "toolkit ui host=0.0.0.0"),
        UI,
        _ui,
    ),
    "rate": Command(
        "open a blind page on which people rate pictures that were composed",
        ("toolkit rate methods=balanced,lora_composer,merge layout=scene1,scene2",),
        RATE,
        _rate,
    ),
}


def _light(module: str, name: str) -> Callable[..., Any]:
    """What a command can tell without torch; imported only now, so that help waits for less."""
    entry: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return entry


def _entry(module: str, name: str) -> Callable[..., Any]:
    """What does a command's work; imported only now, so that wrong input is told without torch."""
    if "toolkit.quiet" not in sys.modules:
        importlib.import_module("toolkit.quiet").quiet_libraries()
    return _light(module, name)


def _overview() -> str:
    lines = ["toolkit COMMAND [key=value ...]"]
    for name, command in COMMANDS.items():
        lines += ["", f"{name}: {command.summary}", f"  {command.examples[0]}"]
        lines += [f"  {line}" for line in describe_groups(command.shape).splitlines()[1:]]
    lines += ["", "group=name takes configs/group/name.yaml, from ./configs first."]
    lines += ["All keys of a command with their defaults: toolkit COMMAND --help"]
    return "\n".join(lines)


def _help(name: str, arguments: Sequence[str]) -> str:
    """What `toolkit NAME --help` prints; `key=value` beside it are taken into account."""
    command = COMMANDS[name]
    typed = split_arguments([argument for argument in arguments if "=" in argument])
    if command.shape is TRAIN and typed.get("concept") not in choices("concept"):
        typed.pop("concept", None)  # one's own, or several: they have no file to show
    examples = [f"  {example}" for example in command.examples]
    return "\n".join(
        [
            f"toolkit {name} {command.first}[key=value ...]: {command.summary}",
            "",
            *examples,
            "",
            describe(command.shape, typed),
        ]
    )


def _show(text: str, code: int = DONE) -> int:
    """Print what was asked for; who stops reading has read enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _end_quietly()
    return code


def _say(line: str) -> None:
    """Print from the first process only, where a command runs in several."""
    if is_first_process():
        print(line)


def _fail(reason: object, code: int) -> int:
    print("toolkit: " + " ".join(str(reason).split()), file=sys.stderr)
    return code
