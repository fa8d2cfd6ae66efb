"""There is something to hold the rivals against, and every folder is read by some test."""

from typing import Any


def test_there_are_cases_and_each_is_of_a_known_kind(cases: list[Any]) -> None:
    assert cases, "no cases: look at TOOLKIT_RIVALS_DIR"
    assert not [case.folder.name for case in cases if case.kind is None]
