"""Config groups, composed by hydra: `configs/COMMAND.yaml` and one file of each group."""

from collections.abc import Mapping
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from toolkit.config.lookup import config_roots
from toolkit.errors import InputError


class WorkingDirectoryFirst(SearchPathPlugin):
    """Lets the files in ./configs come before those of the package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put each folder that comes before the package's in front of it."""
        for root in config_roots()[:-1]:
            search_path.prepend("working directory", f"file://{root}", "main")


def compose_groups(config: str, chosen: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of `configs/config.yaml` as plain values, and the name taken in each group.

    chosen: group -> name, for groups that do not keep their default; both exist (`find_config`).
    """
    if WorkingDirectoryFirst not in Plugins.instance().discover(SearchPathPlugin):
        Plugins.instance().register(WorkingDirectoryFirst)
    overrides = [f"{group}={_quoted(name)}" for group, name in chosen.items()]
    try:
        with initialize_config_dir(str(config_roots()[-1]), version_base="1.3"):
            whole = compose(config, overrides, return_hydra_config=True)
        taken = dict(whole.hydra.runtime.choices)
        with open_dict(whole):
            del whole["hydra"]
        content = OmegaConf.to_container(whole, resolve=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        selected = ", ".join(f"{group}={name}" for group, name in chosen.items())
        reason = " ".join(str(error).split())
        raise InputError(f"configs ({selected or config}): {reason}") from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}, taken


def _quoted(name: str) -> str:
    escaped = name.replace("'", "\\'")
    return f"'{escaped}'"
