"""YAML means the same wherever it is read, and what is wrong in it is told with its line."""

from pathlib import Path

import pytest

from toolkit.config import read_train
from toolkit.errors import InputError
from toolkit.layout.files import read_layouts
from toolkit.text.yaml_values import read_scalar, read_yaml

CASES = Path(__file__).parent.parent / "cases"

SCALARS = [
    ("no", "no"),
    ("on", "on"),
    ("y", "y"),
    ("001", "001"),
    ("12:30:00", "12:30:00"),
    ("2024-01-01", "2024-01-01"),
    ("0x1F", "0x1F"),
    ("1_000", "1_000"),
    ("007.5", "007.5"),
    ("1e-1", 0.1),
    (".5", 0.5),
    ("-3", -3),
    ("0", 0),
    ("true", True),
    ("null", None),
    ("~", None),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_a_scalar_is_the_same_typed_and_in_a_file(text: str, value: object) -> None:
    assert read_scalar(text) == value and type(read_scalar(text)) is type(value)
    assert read_yaml(f"key: {text}", "x.yaml") == {"key": value}


def test_nothing_after_a_key_is_null() -> None:
    assert read_yaml("key:", "x.yaml") == {"key": None}


def test_merge_keys_and_aliases_still_work() -> None:
    text = "base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}"
    assert read_yaml(text, "x")["own"] == {"a": 1, "b": 3}


@pytest.mark.parametrize("name", ["no", "on", "001"])
def test_a_layout_may_have_any_word_for_a_name(name: str) -> None:
    (layout,) = read_layouts([CASES / "yaml_norway" / f"name_{name}.yaml"])
    assert layout.name == name


@pytest.mark.parametrize("case", ["name_time", "name_date"])
def test_a_name_that_looks_like_a_time_is_text(case: str) -> None:
    file = CASES / "yaml_norway" / f"{case}.yaml"
    if case == "name_date":
        assert read_layouts([file])[0].name == "2024-01-01"
    else:
        with pytest.raises(
            InputError, match="'12:30:00': a name has letters, digits, - and _ only"
        ):
            read_layouts([file])


def test_a_concept_may_be_called_no_and_a_strength_is_any_number() -> None:
    (layout,) = read_layouts([CASES / "yaml_norway" / "concept_no.yaml"])
    assert layout.concepts == ("no",)
    (layout,) = read_layouts([CASES / "yaml_norway" / "strength_1e-1.yaml"])
    assert layout.regions[0].strength == 0.1


def test_a_number_where_text_is_wanted_is_to_be_put_in_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (CASES / "ok.yaml").read_text()
    file = tmp_path / "a.yaml"
    for value in ("2024", "true", "1.5"):
        file.write_text(text.replace("name: t", f"name: {value}"))
        with pytest.raises(InputError, match="expected text: write it in quotes"):
            read_layouts([file])
    config = tmp_path / "configs" / "concept" / "rex.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f"images: {tmp_path}\nclass_word: 7\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="class_word=7: expected text: write it in quotes"):
        read_train(["concept=rex"])


def test_an_empty_negative_prompt_is_none_at_all() -> None:
    (layout,) = read_layouts([CASES / "yaml_norway" / "neg_null.yaml"])
    assert layout.negative_prompt == ""


def test_config_files_are_read_by_the_same_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "configs" / "concept" / "rex.yaml"
    file.parent.mkdir(parents=True)
    (tmp_path / "001").mkdir()
    monkeypatch.chdir(tmp_path)
    file.write_text("images: 001\nclass_word: no\n")
    (config,) = read_train(["concept=rex"])
    assert (config.concept.class_word, config.concept.images.name) == ("no", "001")
    file.write_text("images: 001\nclass_word: dog\nclass_word: cat\n")
    with pytest.raises(InputError, match=r"rex\.yaml, line 3: key 'class_word' stands twice"):
        read_train(["concept=rex"])
    file.write_text("- a\n")
    with pytest.raises(InputError, match=r"rex\.yaml: must hold keys and values"):
        read_train(["concept=rex"])


@pytest.mark.parametrize(
    ("case", "line", "said"),
    [
        ("tabs", 6, "a tab cannot indent: use spaces"),
        ("badindent", 4, "wrong indentation"),
        ("quote", 2, "a quote is opened here and never closed"),
        ("prompt_colon", 2, "needs quotes"),
        ("prompt_gt", 2, "needs quotes"),
        ("rp_bracket", 7, "needs quotes"),
    ],
)
def test_a_message_names_the_line_and_what_to_do(case: str, line: int, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_layouts([CASES / "yaml_messages" / f"{case}.yaml"])
    assert f"{case}.yaml, line {line}: " in str(caught.value) and said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "line 4: key 'c' stands twice"),
        ("a: *bold*", "line 1: .* needs quotes"),
        ("a: !ruby/object x", "line 1: .* needs quotes"),
        ("a: !!int dog", "does not fit the !!tag"),
        ("a: 1\n---\nb: 2", "only one is read"),
        ("a: \x07", r"line 1: holds the character U\+0007"),
        ("[" * 3000, "nested too deeply"),
        ("a: &a [*a]", "more than 100,000 values"),
        ('a: "\\0"', "holds NULs"),
        ("? [a]\n: b", "line 1"),
    ],
)
def test_what_is_no_plain_yaml_is_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_yaml(text, "x.yaml")
    assert str(caught.value).startswith("x.yaml") and "\n" not in str(caught.value)


def test_aliases_that_stand_for_billions_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(InputError, match="more than 100,000 values"):
        read_yaml("\n".join(lines), "x.yaml")


def test_only_a_newline_breaks_a_line() -> None:
    text = "a: one\u2028two\x85three\nb: [\u2029]"
    assert read_yaml(text, "x") == {"a": "one\u2028two\x85three", "b": ["\u2029"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nbox：[1, 2]\nb: 2", r"： is no :; or wrong indentation"),
        ("box: [1, 2】", r"】 is no \]"),
        ("a: “x: 1”", r"“ is no \""),
    ],
)
def test_a_character_that_only_looks_like_yamls_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_yaml(text, "x.yaml")
