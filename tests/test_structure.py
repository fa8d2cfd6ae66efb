"""The shape of the code: what may import what, and who may know the inside of a model."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent / "toolkit"
PACKAGE = ROOT.name
FILES = sorted(ROOT.rglob("*.py"))

OTHER_MODELS = {"evaluation/clip.py"}
"""Files whose model is a judge and no base."""

INSIDES = re.compile(
    r"attn1|attn2|down_blocks|up_blocks|mid_block|to_q|to_k|to_v|to_out|ff\.net"
    r"|transformer_blocks|text_model|input_blocks|middle_block|output_blocks"
    r"|block_out_channels|cross_attention_dim|base\.unet|base\.text_encoder"
)

Graph = dict[str, dict[str, list[str]]]


def place_of(module: str) -> str:
    """`batch` for toolkit.batch.run, `sampling` for toolkit.sampling, "" for toolkit itself."""
    return module.split(".")[1] if "." in module else ""


def imported(file: Path) -> list[tuple[int, str]]:
    """The modules of the toolkit that a file imports anywhere in it, with their lines."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write the whole name"
            if node.module == PACKAGE:
                found += [(node.lineno, f"{PACKAGE}.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, str(node.module)))
    return [(line, name) for line, name in found if name.split(".")[0] == PACKAGE]


def imports_between_places() -> Graph:
    """For each folder and each file beside them: what it imports of which other, and where."""
    graph: Graph = defaultdict(lambda: defaultdict(list))
    for file in FILES:
        inside = file.relative_to(ROOT)
        own = inside.parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for line, name in imported(file):
            other = place_of(name)
            if other not in (own, ""):
                graph[own][other].append(f"{inside}:{line} imports {name}")
    return graph


def circle_from(start: str, graph: Graph) -> list[str] | None:
    """The shortest way from a place back to itself, or None."""
    waiting, seen = [[start]], set()
    while waiting:
        way = waiting.pop(0)
        for after in graph.get(way[-1], {}):
            if after == start:
                return [*way, start]
            if after not in seen:
                seen.add(after)
                waiting.append([*way, after])
    return None


def test_no_two_folders_import_each_other_in_circles() -> None:
    graph = imports_between_places()
    for place in sorted(graph):
        circle = circle_from(place, graph)
        if circle is not None:
            steps = zip(circle, circle[1:], strict=False)
            told = "\n".join(line for a, b in steps for line in graph[a][b])
            raise AssertionError(f"{' -> '.join(circle)}:\n{told}")


def test_only_backbones_know_the_inside_of_a_model() -> None:
    knowing: dict[str, list[str]] = defaultdict(list)
    for file in FILES:
        inside = file.relative_to(ROOT)
        if inside.parts[0] == "backbones" or str(inside) in OTHER_MODELS:
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if INSIDES.search(line):
                knowing[str(inside)].append(f"{inside}:{number} {line.strip()}")
    assert not knowing, "ask the base instead:\n" + "\n".join(sum(knowing.values(), []))


def test_the_map_has_a_line_for_every_file() -> None:
    told = (ROOT.parent / "docs" / "code.md").read_text()
    files = [str(file.relative_to(ROOT)) for file in FILES if file.name != "__init__.py"]
    assert [name for name in files if f"- `{name}`: " not in told] == []
    named = re.findall(r"^- `([\w/]+\.py)`: ", told, re.MULTILINE)
    assert [name for name in named if not (ROOT / name).is_file()] == []
