"""`key=value` as people type it, and the lists that some keys take."""

from collections.abc import Sequence
from pathlib import Path

from toolkit.config.lookup import find_config
from toolkit.config.schema import LARGEST_SEED
from toolkit.errors import InputError, shortened, within
from toolkit.files import from_home, is_file_here
from toolkit.names import check_characters
from toolkit.text.look_alikes import look_alikes
from toolkit.text.yaml_values import read_scalar

MOST_SEEDS = 10_000
"""Pictures of one layout that a count asks for; a larger number is mostly meant as one seed."""


def split_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Each `key=value`, split at the first `=`; the last of a key wins."""
    typed = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            found = look_alikes(argument)
            more = f": {found}" if found else ""
            raise InputError(f"expected key=value, got {argument!r}{more}")
        with within(key):
            check_characters(key, value)
        typed[key] = value
    return typed


def names(text: str, key: str) -> tuple[str, ...]:
    """`dog,cat` or `[dog, cat]`: the names, once each."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    found = [name.strip() for name in inner.split(",")]
    if not all(found):
        raise InputError(f"{key}={text}: a name is missing; write {key}=one or {key}=one,two", key)
    return tuple(dict.fromkeys(found))


def seeds(value: object) -> tuple[int, ...]:
    """`8` is 0 to 7; `[7,11]` and `7,11` are those two."""
    value = _typed_seeds(value)
    wrong = InputError(
        f"seeds={shortened(str(value))}: expected a count or a list, as seeds=8 or seeds=[7,11]",
        "seeds",
    )
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        if value > MOST_SEEDS:
            raise InputError(
                f"seeds={value} asks for {value} pictures of each layout, 0 to {value - 1}; the "
                f"most is {MOST_SEEDS}; for one seed write seeds=[{value}]",
                "seeds",
            )
        return tuple(range(value))
    if not isinstance(value, list) or not value:
        raise wrong
    if not all(type(seed) is int and seed >= 0 for seed in value):
        raise wrong
    if max(value) > LARGEST_SEED:
        raise InputError(
            f"seeds={shortened(str(value))}: the largest seed is 2**63 - 1 = {LARGEST_SEED}",
            "seeds",
        )
    return tuple(dict.fromkeys(value))


def _typed_seeds(value: object) -> object:
    if not isinstance(value, str):
        return value
    return read_scalar(f"[{value}]" if "," in value and not value.startswith("[") else value)


def layout_files(text: object) -> tuple[Path, ...]:
    """`scene1`, `FILE.yaml`, or several with commas: the files that hold them."""
    text = str(text)
    if is_file_here(from_home(text)):
        return (_layout_file(text),)
    return tuple(_layout_file(name) for name in names(text, "layout"))


def existing_file(value: object) -> Path:
    """The file of many layouts."""
    path = from_home(str(value))
    if not is_file_here(path):
        raise InputError(f"layouts={value}: there is no such file", "layouts")
    if path.suffix.lower() in (".yaml", ".yml"):
        raise InputError(
            f"layouts={value}: a file of one layout is given with layout={value}", "layouts"
        )
    return path


def method_names(value: object) -> tuple[str, ...]:
    """The methods that are compared; `[]` for none, where only pictures are."""
    if value == [] or str(value).replace(" ", "") == "[]":
        return ()
    return names(str(value), "methods")


def layout_names(value: object) -> tuple[str, ...]:
    """The layouts whose pictures are shown."""
    return names(str(value), "layout")


def judge_names(value: object) -> tuple[str, ...]:
    """Who judges."""
    return tuple(str(from_home(name)) for name in names(str(value), "judge"))


def take_first(arguments: Sequence[str], what: str) -> tuple[str, list[str]]:
    """A command's first argument, which has no key, and the others."""
    first, *others = arguments or [""]
    if not first or ("=" in first and not is_file_here(from_home(first))):
        raise InputError(f"the {what} comes first, without a key")
    return first, others


def concept_name(value: object) -> str:
    """The one concept that a command takes."""
    found = names(str(value), "concept")
    if len(found) > 1:
        raise InputError(f"concept={value}: this command takes one concept", "concept")
    return found[0]


def concept_names(value: object) -> tuple[str, ...]:
    """The concepts that a command takes together."""
    return names(str(value), "concepts")


def _layout_file(name: str) -> Path:
    path = from_home(name)
    if path.suffix.lower() == ".jsonl":
        raise InputError(
            f"layout={name}: a file of many layouts is given with layouts={name}", "layout"
        )
    if path.suffix.lower() in (".yaml", ".yml") or len(path.parts) > 1:
        if not is_file_here(path):
            raise InputError(f"layout={name}: there is no such file", "layout")
        return path
    if path.suffix and path.is_file():
        return path
    try:
        return find_config("layout", name)
    except InputError as error:
        if is_file_here(from_home(f"{name}.yaml")):
            raise InputError(
                f"there is no layout={name} in configs/layout; for the file that is here: "
                f"layout={name}.yaml",
                "layout",
            ) from error
        raise
