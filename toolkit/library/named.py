"""Bases, concepts, layouts and methods, by the names that the commands know, or from files."""

from pathlib import Path

import torch

from toolkit import backbones
from toolkit.backbones import Base
from toolkit.backbones.waiting import WAIT_WHILE_COMPOSING
from toolkit.concept import Concept
from toolkit.concept.file import load_concept as load_trained
from toolkit.concept.formats.read import read_foreign
from toolkit.concept.stored import concept_path
from toolkit.config import SampleConfig, read_sample
from toolkit.config.arguments import layout_files
from toolkit.config.commands import COMPOSE, composed
from toolkit.config.lookup import choices, config_for, find_config
from toolkit.config.method import build_method
from toolkit.errors import InputError
from toolkit.files import from_home
from toolkit.layout.files import read_layouts
from toolkit.layout.layout import Layout, is_file, name_of
from toolkit.methods import Method
from toolkit.names import check_name
from toolkit.text.suggest import nearest

# `toolkit sample` wants a concept named; of what is read here nothing depends on it.
_ANY = "concept=any"


def load_base(
    model: str | Path = "mini",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    compiled: bool | None = None,
) -> Base:
    """The base that `toolkit compose model=...` or `model.path=...` takes.

    model: a name of `configs/model`, or a diffusers folder, a .safetensors file or a hub id.
    device: None takes a GPU if there is one. dtype: of the weights, as "float16"; None takes the
    config's, or float32. compiled: denoising passes are compiled; None takes the config's.
    Raises InputError for what is no base.
    """
    config = read_sample([_ANY, model_argument(model)]).model
    return backbones.load_base(
        config.path,
        config.name,
        guidance_downscale=config.guidance_downscale,
        guidance_layers=config.guidance_layers,
        prediction_type=config.prediction_type,
        device=_device() if device is None else device,
        dtype=_dtype(dtype or config.dtype or torch.float32),
        compiled=config.compile if compiled is None else compiled,
        waiting=WAIT_WHILE_COMPOSING if config.offload else (),
    )


def load_concept(
    source: str | Path,
    base: Base,
    *,
    name: str | None = None,
    class_word: str = "",
    trigger: str = "",
    embedding: str | Path | None = None,
    output_dir: str | Path = "outputs",
) -> Concept:
    """A concept that was trained or imported, by its name; or a file of any format that is known.

    source: a name is looked for in `output_dir`, a file is where it is. name: what it answers to,
    <NAME>; None takes its name, or that of its file. class_word, trigger, embedding: as `toolkit
    import` takes them, for files that lack such.
    Raises InputError for what is not there, damaged, dangerous, or made for another base.
    """
    path = from_home(source)
    if not isinstance(source, Path) and not is_file(source):
        path = concept_path(Path(output_dir) / "concepts", base.name, source)
        if not path.is_file():
            raise InputError(
                f"no concept {source} of {base.name}: {path} is not there; train it first, or give "
                "a file, as load_concept('loras/rex.safetensors', base)"
            )
        load_trained(path).check_fits(base)  # says on which base it was trained
    called = name or name_of(str(path))
    check_name("concept", called)
    inversion = None if embedding is None else from_home(embedding)
    return read_foreign(path, called, base, class_word, trigger, inversion)


def load_layout(source: str | Path) -> Layout:
    """The layout of a YAML file, or of a name in `configs/layout`.

    Raises InputError when there is none, or it is wrong.
    """
    found = read_layouts(layout_files(source))
    if len(found) > 1:
        raise InputError(f"{source} are {len(found)} layouts: load one at a time")
    return found[0]


def load_method(name: str, base: Base) -> Method:
    """The method of `configs/method/NAME.yaml`, as `toolkit compose method=NAME` has it on `base`.

    Raises InputError, with the nearest names, when there is none.
    """
    find_config("method", name)
    return build_method(composed(COMPOSE, {"model": _like(base), "method": name})["method"])


def settings_of(base: Base) -> SampleConfig:
    """What the config of the base's name says: its size, its steps, its guidance scale.

    A base without a config of its own has its family's.
    """
    return read_sample([_ANY, f"model={_like(base)}"])


def model_argument(model: str | Path) -> str:
    """What to type for a base: `model=NAME` or `model.path=PATH`. InputError when it is neither."""
    if model in choices("model"):
        return f"model={model}"
    if isinstance(model, Path) or "/" in model or from_home(model).exists():
        return f"model.path={model}"
    raise InputError(
        f"there is no base {model} ({nearest(model, choices('model'))}): give a name of "
        "configs/model, a diffusers folder, a .safetensors file or a hub id"
    )


def _like(base: Base) -> str:
    return base.name if base.name in choices("model") else config_for(base.family)


def _device() -> torch.device:
    if torch.accelerator.is_available():
        found = torch.accelerator.current_accelerator()
        assert found is not None
        return found
    return torch.device("cpu")


def _dtype(chosen: str | torch.dtype) -> torch.dtype:
    if isinstance(chosen, torch.dtype):
        return chosen
    found = getattr(torch, chosen, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"dtype={chosen}: expected float32, float16 or bfloat16")
    return found
