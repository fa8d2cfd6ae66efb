"""Training and export from a notebook, by what the commands run."""

import json
from collections.abc import Mapping
from pathlib import Path

from toolkit.concept import Concept, load_concept
from toolkit.concept.formats.described import describe_files
from toolkit.concept.formats.write import Written, write_foreign
from toolkit.config import read_train
from toolkit.config.schema import Format
from toolkit.errors import InputError
from toolkit.files import from_home
from toolkit.library.named import model_argument


def train(
    name: str,
    images: str | Path | None = None,
    class_word: str | None = None,
    *,
    model: str | Path = "mini",
    steps: int | None = None,
    output_dir: str | Path = "outputs",
    settings: Mapping[str, object] | None = None,
) -> Concept:
    """Train a concept as `toolkit train` does, with its files and its checkpoints.

    images, class_word: the folder of its images, and what it is; None takes those of
    `configs/concept/NAME.yaml`. model: a name of `configs/model`, or a path. settings: any other
    keys of the command, as {"training.rank": 8, "logger": "none"}.
    It goes on from a checkpoint, and returns what is there already if it was trained so. It has a
    base of its own, so that yours is free meanwhile.
    Raises InputError for what is wrong, before anything heavy starts, and RunError when it fails.
    """
    from toolkit.training import run  # Lightning takes seconds to import

    given: dict[str, object] = {
        "concept": name,
        "concept.images": images,
        "concept.class_word": class_word,
        "training.steps": steps,
        "output_dir": output_dir,
    }
    typed = [f"{key}={_typed(value)}" for key, value in given.items() if value is not None]
    more = [f"{key}={_typed(value)}" for key, value in (settings or {}).items()]
    configs = read_train([model_argument(model), *typed, *more])
    if len(configs) > 1:
        raise InputError(f"{name} are {len(configs)} concepts: train one at a time")
    return load_concept(run.train(configs[0]))


def export_concept(concept: Concept, path: str | Path, format: str = "diffusers") -> Written:
    """Write a concept for other programs: diffusers, kohya or mix_of_show.

    Returns the files that were written, and what the format cannot hold, in words.
    """
    known = [str(one) for one in Format]
    if format not in known:
        raise InputError(f"format={format}: expected one of {', '.join(known)}")
    suffixes = Format(format).suffixes
    if Path(path).suffix.lower() not in suffixes:
        raise InputError(f"{path}: a file for format={format} ends in {' or '.join(suffixes)}")
    written = write_foreign(concept, format, from_home(path))
    describe_files(written.files, concept, picture=None)
    return written


def _typed(value: object) -> str:
    """A value as a person types it after `key=`."""
    return str(value) if isinstance(value, str | Path) else json.dumps(value)
