"""Files that are there whole or not at all, and folders that can be written to."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from toolkit.errors import InputError
from toolkit.files import check_writable


def test_looking_whether_a_folder_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "out" / "compose" / "merge")
    assert not list(tmp_path.iterdir())


def test_many_that_look_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check_writable, [tmp_path / "a" / "b" / "c"] * 400))
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_is_wanted_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*/out: it is no folder"):
        check_writable(tmp_path / "out" / "compose")


def test_a_name_that_no_folder_can_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        check_writable(tmp_path / ("a" * 300) / "compose")
