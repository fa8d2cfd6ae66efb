"""Names of a package that are loaded when they are first asked for."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def loader(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """The `__getattr__` of a package whose names lie in these modules.

    So the package can be imported, and what is light in it used, without torch.
    """
    module_of = {name: module for module, held in names.items() for name in held}

    def load(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(module_of[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return load
