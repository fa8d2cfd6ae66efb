"""Layouts out of whatever a person drops on the page: a PNG of ours, YAML, or JSONL."""

import io
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from toolkit.errors import InputError, one_line
from toolkit.layout.files import read_lines
from toolkit.layout.layout import Layout
from toolkit.layout.mapping import layout_from_mapping
from toolkit.text.files import read_text
from toolkit.text.json_values import read_json
from toolkit.text.yaml_values import read_yaml
from toolkit.ui.orders import read_drawn

_PNG = b"\x89PNG"
_MOST_LAYOUTS = 1000


def layouts_in(content: bytes) -> tuple[list[Layout], list[str]]:
    """The layouts of a file, and a line for each that is left out.

    Raises InputError for a file that holds none. A picture's pixels are not decoded.
    """
    if content.startswith(_PNG):
        return [read_drawn(_inputs(content)["layout"])], []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        text = _text(path)
        if text.lstrip().startswith("{"):
            try:
                lines = read_lines(path)
            except InputError as error:
                raise InputError(str(error).replace(str(path), "the file")) from error
            wrong = [f"line {one.line}: {one.error}" for one in lines.rejected]
            if not lines.layouts:
                raise InputError(wrong[0])
            return list(lines.layouts.values())[:_MOST_LAYOUTS], wrong[:20]
    held = read_yaml(text, "the file")
    if not isinstance(held, dict):
        raise InputError("the file is no layout")
    return [layout_from_mapping(held, "the file")], []


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), "the file")) from error


def _inputs(png: bytes) -> dict[str, Any]:
    """What a PNG says that it was made from."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
                told = image.info.get("toolkit")
    except Exception as error:  # whatever Pillow's parser meets in a stranger's file
        raise InputError(f"the picture cannot be read: {one_line(error)}") from error
    if not isinstance(told, str):
        raise InputError(
            "the picture does not say what it was made from: it is none of this toolkit's"
        )
    inputs = read_json(told, "the picture's provenance")
    if not isinstance(inputs, dict) or not isinstance(inputs.get("layout"), dict):
        raise InputError("the picture's provenance holds no layout")
    return inputs
