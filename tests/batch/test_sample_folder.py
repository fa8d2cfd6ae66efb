"""Two prompts of `toolkit sample` never share a folder."""

import pytest

from toolkit.batch.asked import folder_of
from toolkit.names import check_name

PROMPTS = [
    "<rex>", "<rex> on the beach", "<rex> on the  beach", "<rex> on-the beach",
    "<rex>, on the beach", "<rex> On the beach", "<Rex> on the beach", "<rex> 犬", "<rex> 猫",
    "<rex> é", "<rex> e\u0301", "<rex> <rex>", "<rex> rex", "rex <rex>", "<rex>.", "<rex>!",
    "<rex> " + "a" * 100, "<rex> " + "a" * 101, "<rex> " + "犬" * 300, "<rex> " + "犬" * 301,
    "<rex> 🐶", "<rex> 🐱", "<rex> \n", "<rex> ",
]  # fmt: skip


def test_names_differ_on_every_file_system_and_can_be_folders() -> None:
    names = [folder_of(prompt, "rex") for prompt in PROMPTS]
    assert len({name.casefold() for name in names}) == len(PROMPTS)
    for name in names:
        check_name("folder", name)


@pytest.mark.parametrize(
    ("prompt", "name"), [("<rex>", "rex"), ("<rex> on the beach", "rex-on-the-beach")]
)
def test_a_plain_prompt_is_its_folders_name(prompt: str, name: str) -> None:
    assert folder_of(prompt, "rex") == name


def test_letters_of_every_script_stay() -> None:
    assert folder_of("<rex> 犬", "rex").startswith("rex-犬-")
