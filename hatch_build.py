"""Ships the clone's `configs` and `datasets` inside the package, so that it works without one."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedFolders(BuildHookInterface):  # type: ignore[type-arg]
    """Puts both folders into every wheel but an editable one, which reads the clone's."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds a wheel; `version` says of which kind."""
        if version != "editable":
            for folder in ("configs", "datasets"):
                build_data["force_include"][folder] = f"toolkit/{folder}"
