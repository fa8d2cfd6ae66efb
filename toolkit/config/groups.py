"""Config groups, composed by hydra: `configs/COMMAND.yaml` and one file of each group."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from toolkit.config.lookup import config_roots
from toolkit.errors import InputError
from toolkit.text.files import read_text
from toolkit.text.yaml_values import read_yaml

_SCHEME = "checked"
_READING = threading.Lock()  # hydra holds what it composes in one place of the whole process


class CheckedFiles(FileConfigSource):
    """Config files, read as all other YAML is; hydra's own reader takes `no` for false."""

    @staticmethod
    def scheme() -> str:
        """What a path begins with that this source reads."""
        return _SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """The content of one file. Raises InputError that names the file and the line."""
        file = Path(self.path) / self._normalize_file_name(config_path)
        text = read_text(file)
        content = read_yaml(text, str(file))
        if not isinstance(content or {}, dict):
            raise InputError(f"{file}: must hold keys and values")
        return ConfigResult(
            config=OmegaConf.create(content or {}),
            path=f"{_SCHEME}://{self.path}",
            provider=self.provider,
            header=self._get_header_dict(text),
        )


class WorkingDirectoryFirst(SearchPathPlugin):
    """Lets the files in ./configs come before those of the package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Have the package's folder read by CheckedFiles, and those before it in front of it."""
        *before, shipped = config_roots()
        for place in search_path.get_path():
            if place.provider == "main":
                place.path = f"{_SCHEME}://{shipped}"
        for root in before:
            search_path.prepend("working directory", f"{_SCHEME}://{root}", "main")


def compose_groups(config: str, chosen: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of `configs/config.yaml` as plain values, and the name taken in each group.

    chosen: group -> name, for groups that do not keep their default; both exist (`find_config`).
    """
    overrides = [f"{group}={_quoted(name)}" for group, name in chosen.items()]
    try:
        with _READING:
            whole = _composed(config, overrides)
        taken = dict(whole.hydra.runtime.choices)
        with open_dict(whole):
            del whole["hydra"]
        content = OmegaConf.to_container(whole, resolve=True)
    except (HydraException, OmegaConfBaseException, InputError) as error:
        selected = ", ".join(f"{group}={name}" for group, name in chosen.items())
        reason = " ".join(str(error).split())
        raise InputError(f"configs ({selected or config}): {reason}") from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}, taken


def _composed(config: str, overrides: list[str]) -> DictConfig:
    if WorkingDirectoryFirst not in Plugins.instance().discover(SearchPathPlugin):
        Plugins.instance().register(WorkingDirectoryFirst)
        Plugins.instance().register(CheckedFiles)
    with initialize_config_dir(str(config_roots()[-1]), version_base="1.3"):
        return compose(config, overrides, return_hydra_config=True)


def _quoted(name: str) -> str:
    escaped = name.replace("'", "\\'")
    return f"'{escaped}'"
