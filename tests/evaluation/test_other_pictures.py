"""Pictures that another program made, beside methods, and told when they are wrong."""

from pathlib import Path

import pytest
from evaluations import Work
from PIL import Image


def told(work: Work, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said, in a line, of wrong input; nothing was begun."""
    assert work.evaluate(*arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and not (work.folder / "out/compose").exists()
    return said[0]


def test_pictures_of_another_program_are_one_more_method(
    work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = work.paint("theirs")
    assert work.evaluate("methods=prompt_only", f"pictures.theirs={folder}") == 0
    assert {row["method"] for row in work.rows} == {"prompt_only", "theirs"}
    assert sum(row["method"] == "theirs" for row in work.rows) == 2 * 2 * 2
    assert "prompt_only - theirs: image similarity" in capsys.readouterr().out
    sheet = Image.open(work.folder / "out/evaluation/contact_one.png")
    assert sheet.convert("RGB").getpixel((sheet.width - 60, sheet.height - 40)) == (255, 165, 0)


def test_pictures_alone_are_scored_without_composing(work: Work) -> None:
    folders = {name: work.paint(name, colour) for name, colour in (("a", "tan"), ("b", "black"))}
    typed = [f"pictures.{name}={folder}" for name, folder in folders.items()]
    assert work.evaluate("methods=[]", *typed) == 0
    assert {row["method"] for row in work.rows} == {"a", "b"}
    assert not (work.folder / "out/compose").exists()


def test_missing_pictures_are_counted_and_left_out_only_when_told_to(
    work: Work, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = work.paint("theirs")
    (folder / "one" / "1.png").unlink()
    (folder / "two" / "0.png").unlink()
    typed = ("methods=[]", f"pictures.theirs={folder}")
    said = told(work, capsys, *typed)
    assert "2 of 4 pictures are missing" in said and "the first is one/1.png" in said
    assert work.evaluate(*typed, "skip_missing=true") == 0
    assert {(row["layout"], row["seed"]) for row in work.rows} == {("one", "0"), ("two", "1")}
    assert "2 of 4 pictures are missing" in caplog.text


@pytest.mark.parametrize("skip", ["false", "true"])
def test_a_wrong_picture_is_named_before_anything_is_made(
    skip: str, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = work.paint("theirs")
    wrong = folder / "two" / "1.png"
    whole = wrong.read_bytes()
    typed = ("methods=prompt_only", f"pictures.theirs={folder}", f"skip_missing={skip}")
    Image.new("RGB", (64, 64)).save(wrong)
    assert f"{wrong} is 64 x 64 pixels, and layout two is 128 x 64" in told(work, capsys, *typed)
    wrong.write_bytes(whole[: len(whole) // 2])
    assert str(wrong) in told(work, capsys, *typed)
    wrong.write_text("no picture")
    assert f"{wrong} (" in told(work, capsys, *typed)


def test_a_folder_that_cannot_be_meant_is_told(
    work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told(work, capsys, "methods=merge", f"pictures.theirs={tmp_path / 'no'}")
    assert "there is no such folder" in said
    (tmp_path / "empty").mkdir()
    for typed in ("skip_missing=true", "skip_missing=false"):
        said = told(work, capsys, "methods=merge", f"pictures.x={tmp_path / 'empty'}", typed)
        assert "4 of 4 pictures are missing" in said and "LAYOUT/SEED.png" in said
    folder = work.paint("theirs")
    said = told(work, capsys, "methods=merge", f"pictures.merge={folder}")
    assert "a method that is compared is called so" in said
    assert "name at least one" in told(work, capsys, "methods=[]")
