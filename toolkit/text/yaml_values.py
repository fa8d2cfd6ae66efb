"""YAML that a person wrote, with YAML 1.2's scalars wherever YAML is read.

`no`, `on`, `001`, `12:30:00` and `2024-01-01` are text, and `1e-1` is a number.
"""

import re
from typing import Any

import yaml

from toolkit.errors import InputError
from toolkit.names import check_texts
from toolkit.text.look_alikes import look_alikes

_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
)
# What PyYAML lets through when an explicit tag, as !!int, stands before something else.
_WRONG_TAG = (ValueError, TypeError, LookupError, AttributeError)
_MOST_VALUES = 100_000  # with every alias written out: a few lines can stand for billions

# PyYAML takes these three for line breaks, as YAML 1.1 did. While it reads, codes stand for them
# that Unicode keeps free of meaning.
_NO_BREAKS = {"\x85": "\ufdd0", "\u2028": "\ufdd1", "\u2029": "\ufdd2"}
_HIDDEN = str.maketrans(_NO_BREAKS)
_SHOWN = str.maketrans({free: character for character, free in _NO_BREAKS.items()})

_QUOTES = "text with ': ' in it, or that begins with one of [ ] { } > | * & ! % @ `, needs quotes"
_PROBLEMS = (
    (r"found character '\\t'", "a tab cannot indent: use spaces"),
    (r"while scanning a quoted scalar", "a quote is opened here and never closed"),
    (r"found undefined (alias|tag)|could not determine a constructor", _QUOTES),
    (r"expected a single document", "a line of --- starts a second document; only one is read"),
    (r"", f"wrong indentation, or {_QUOTES}"),
)


class _Values(yaml.SafeLoader):
    """Plain values by YAML 1.2's rules; a key that stands twice is refused."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        return value.translate(_SHOWN) if isinstance(value, str) else value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark
                    )
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_Values.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _SCALARS:
    _Values.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )
_Values.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile("^(?:null|Null|NULL|~|)$"), ["n", "N", "~", ""]
)


class _Written(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as anything else."""


for _tag, _pattern, _first in _SCALARS:
    _Written.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def write_yaml(value: Any) -> str:
    """Plain values as YAML that `read_yaml` reads back: keys in their order, short lists inline."""
    return yaml.dump(
        value, Dumper=_Written, sort_keys=False, allow_unicode=True, default_flow_style=None
    )


def read_yaml(text: str, where: str) -> Any:
    """The value that `text` holds. Raises InputError that names the line and the problem."""
    try:
        return _loaded(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{where}, line {line}: holds the character U+{error.character:04X}, which text cannot"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise InputError(f"{where}{_problem(error, text)}") from error
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except _WRONG_TAG as error:
        raise InputError(f"{where}: a value does not fit the !!tag in front of it") from error


def read_scalar(text: str) -> Any:
    """What `text` means where nothing says what is expected: YAML, or else the text itself."""
    try:
        return _loaded(text)
    except (yaml.YAMLError, InputError, RecursionError, *_WRONG_TAG):
        return text


def _loaded(text: str) -> Any:
    loader = _Values(text.translate(_HIDDEN))
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > _MOST_VALUES:
            raise InputError(f"holds more than {_MOST_VALUES:,} values")
        value = loader.construct_document(node)
    finally:
        loader.dispose()
    check_texts(value)
    return value


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values `node` stands for, with every alias counted as often as it is used."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES + 1  # until it is counted: an alias to itself has no end
        parts = (
            [part for pair in node.value for part in pair]
            if (isinstance(node, yaml.MappingNode))
            else node.value
        )
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = error.problem or "cannot be read"
    mark = error.problem_mark
    unclosed = (error.context or "").startswith("while scanning a quoted scalar")
    if unclosed or mark is None:
        mark = error.context_mark or mark
    if problem.endswith("stands twice"):
        hint = ""
    else:
        said = f"{error.context or ''} {problem}"
        hint = next(meant for found, meant in _PROBLEMS if re.search(found, said))
        if mark is not None:
            begun = min(mark, error.context_mark or mark, key=lambda place: place.line)
            lines = text.split("\n")[begun.line : mark.line + 1]
            hint = "; or ".join(filter(None, [look_alikes("\n".join(lines)), hint]))
        hint = f" ({hint})"
    line = "" if mark is None else f", line {mark.line + 1}"
    return f"{line}: {problem}{hint}"
