"""Text files and JSON: UTF-8, lines that end at newlines, no key twice, and text that is text."""

import json
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.layout.files import read_lines
from toolkit.text.files import read_text, split_lines
from toolkit.text.json_values import read_json

CASES = Path(__file__).parent.parent / "cases"


def test_utf8_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    for content in ("café\r\nb".encode(), "\ufeffcafé\r\nb".encode()):
        (tmp_path / "a.txt").write_bytes(content)
        assert read_text(tmp_path / "a.txt") == "café\nb"


def test_what_is_known_to_be_no_text_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match="a.yaml is a picture, and no text"):
        read_text(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\ncafé".encode("latin-1"), "line 2"),
        ("dog".encode("utf-16"), "UTF-16"),
        ("dog".encode("utf-16-le"), "holds NULs"),
        (b"dog\0\0", "holds NULs"),
    ],
)
def test_other_encodings_are_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.txt is not UTF-8 text.*{said}.*save it as UTF-8|"
                                         rf"a\.txt is not UTF-8 text but {said}"):  # fmt: skip
        read_text(tmp_path / "a.txt")


def test_a_folder_in_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_text(tmp_path)


def test_lines_end_at_newlines_only() -> None:
    assert split_lines("a\u2028b\x85c\x0cd\ne") == ["a\u2028b\x85c\x0cd", "e"]


@pytest.mark.parametrize("case", ["u2028", "nel"])
def test_a_layout_line_may_hold_any_character(case: str) -> None:
    lines = read_lines(CASES / "unicode_line_breaks" / f"{case}.jsonl")
    assert list(lines.layouts) == [1, 2] and not lines.rejected
    assert "on the grass" in lines.layouts[1].prompt


def test_a_wrong_layout_line_does_not_move_the_numbers_of_others(tmp_path: Path) -> None:
    text = (CASES / "unicode_line_breaks" / "u2028.jsonl").read_text("utf-8")
    file = tmp_path / "many.jsonl"
    file.write_text(text + '{"name": "a", "name": "b"}\n', "utf-8")
    lines = read_lines(file)
    assert [(wrong.line, "stands twice" in wrong.error) for wrong in lines.rejected] == [(3, True)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "too large"),
        ('{"a": "\\u0000"}', "holds NULs"),
        ('{"a": ["\\ud83d"]}', "half of a character"),
        ('[["\\u0000"]]', "holds NULs"),
        ('{"\\ud83d": 1}', "half of a character"),
        ('{"a": 1\n"b": 2}', r"line 2 is not JSON"),
        ("{“a”: 1}", '“ is no "'),
        ('{"a"：1}', "： is no :"),
        ("[" * 100_000, "nested too deeply"),
        (f'{{"a": {"9" * 5000}}}', "digits"),
    ],
)
def test_what_is_no_plain_json_is_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_json(text, "x.json")
    assert str(caught.value).startswith("x.json") and "\n" not in str(caught.value)
    assert read_json(json.dumps({"a": "é\u2028"}), "x.json") == {"a": "é\u2028"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        ("\ufeff<!-- saved -->\n<html>404", "a web page"),
        ("{\\rtf1\\ansi <rex>}", "a rich text"),
    ],
)
def test_what_is_no_plain_text_is_not_taken_for_a_caption(
    content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=said):
        read_text(tmp_path / "a.txt")
