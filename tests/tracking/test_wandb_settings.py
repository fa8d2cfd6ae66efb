"""What W&B refuses is told before anything is loaded."""

import os

import pytest

from toolkit.config.schema import LoggerConfig
from toolkit.errors import InputError
from toolkit.tracking.wandb_settings import check_wandb


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WANDB_MODE", "OFFLINE", "'offline'"),
        ("WANDB_MODE", "foo", "'offline'"),
        ("WANDB_BASE_URL", "localhost:8080", "'http' or 'https'"),
        ("WANDB_INIT_TIMEOUT", "soon", "valid number"),
        ("WANDB_RUN_ID", "a/b", "Run ID cannot contain"),
        ("WANDB_PROJECT", "a?b", "cannot contain"),
        ("WANDB_SILENT", "perhaps", "boolean"),
    ],
)
def test_a_variable_that_is_refused_is_named(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"^W&B refuses {name}: .*{said}"):
        check_wandb()


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("WANDB_BASE_URL", "")
    check_wandb()
    assert not {"WANDB_MODE", "WANDB_BASE_URL"} & set(os.environ)


@pytest.mark.parametrize("mode", ["online", "offline", "disabled", "shared"])
def test_the_modes_of_wandb_are_taken(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    check_wandb()


@pytest.mark.parametrize("project", ["a/b", "", "x" * 129, "50%", "a:b"])
def test_a_project_that_wandb_has_no_place_for_is_refused(project: str) -> None:
    with pytest.raises(InputError, match=r"logger\.project=.*1 to 128 characters"):
        LoggerConfig(project=project)
