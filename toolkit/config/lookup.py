"""Where configs, data sets and bases are found: the working directory first, then the package.

An installed package holds `configs` and `datasets` itself; an editable install uses the clone's.
"""

from contextlib import suppress
from pathlib import Path

import toolkit
from toolkit.backbones.families import SD2, SDXL
from toolkit.errors import InputError, shortened
from toolkit.files import from_home, is_file_here
from toolkit.text.files import read_text
from toolkit.text.suggest import nearest
from toolkit.text.yaml_values import read_yaml

_PACKAGE = Path(toolkit.__file__).resolve().parent
SHIPPED = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
"""The folder that holds the shipped `configs` and `datasets`."""


def config_roots() -> list[Path]:
    """The `configs` folders that exist, the one to ask first in front."""
    roots = [Path.cwd() / "configs", SHIPPED / "configs"]
    return [root for root in dict.fromkeys(root.resolve() for root in roots) if root.is_dir()]


def choices(group: str) -> list[str]:
    """The names that `group=` can take, sorted."""
    return sorted({file.stem for root in config_roots() for file in (root / group).glob("*.yaml")})


def find_config(group: str, name: str) -> Path:
    """The file `configs/group/name.yaml`; InputError with the nearest names when there is none."""
    for root in config_roots():
        file = root / group / f"{name}.yaml"
        if file.parent == root / group and is_file_here(file):
            return file
    raise InputError(
        f"there is no {group}={shortened(name)} ({nearest(name, choices(group))})", group
    )


def find_dataset(path: Path) -> Path:
    """The existing folder of images that `path` means; InputError when there is none."""
    for folder in (from_home(path), SHIPPED / path):
        with suppress(OSError):  # a name that no folder can have
            if folder.is_dir():
                return folder.resolve()
    raise InputError(
        f"no folder {str(path)!r}: give one with concept.images=FOLDER", "concept.images"
    )


def images_of(name: str, remembered: str) -> Path:
    """The images that a concept was trained from, as its file says.

    Where it does not, or they are there no more: `images` of configs/concept/NAME.yaml, or
    datasets/NAME.
    remembered: what its file says; empty where it does not.
    """
    if remembered and from_home(remembered).is_dir():
        return from_home(remembered)
    images = Path("datasets") / name
    if name in choices("concept"):
        file = find_config("concept", name)
        content = read_yaml(read_text(file), str(file))
        if isinstance(content, dict) and "images" in content:
            images = Path(str(content["images"]))
    try:
        return find_dataset(images)
    except InputError as error:
        gone = f" ({remembered}, which it was trained from, is gone)" if remembered else ""
        raise InputError(
            f"no images of {name}{gone}: write configs/concept/{name}.yaml with "
            f"`images: FOLDER` and `class_word: WORD`, or put them into datasets/{name}"
        ) from error


def find_base(path: str) -> str:
    """The base that `path` means: an existing file or folder, a packaged asset, or a hub id.

    A hub id comes back as it is; InputError for what can be none of them.
    """
    local = from_home(path)
    if path and _exists(local):
        return str(local.resolve())
    if path.startswith("assets/"):
        return str(_PACKAGE / path)
    is_hub_id = path.count("/") <= 1 and all(c.isalnum() or c in "-_./" for c in path)
    if (
        not path
        or not is_hub_id
        or path[0] in "./~"
        or path.endswith("/")
        or local.suffix.lower() in _FILES
    ):
        raise InputError(f"model.path={path}: no such file or folder, and no hub id", "model.path")
    return path


def _exists(path: Path) -> bool:
    with suppress(OSError):
        return path.exists()
    return False


def config_for(family: str | None) -> str:
    """The config of `configs/model` that a base of a family begins as; None: of an unknown one."""
    return {SD2: "sd21", SDXL: "sdxl"}.get(family or "", "sd15")


def base_name(path: str) -> str:
    """The last part of a base's path, without the suffix of a weights file."""
    last = Path(from_home(path).resolve().name)
    return last.stem if last.suffix.lower() in _FILES else last.name


def is_packaged(path: str) -> bool:
    """Whether a base's path is one of those that come with the package."""
    return Path(path).is_relative_to(_PACKAGE)


_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
