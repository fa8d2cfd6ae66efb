"""What a fusion is asked for, checked as far as files tell, without torch."""

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path

from toolkit.backbones.identity import Identity
from toolkit.backbones.source import check_local
from toolkit.backbones.unet.configuration import read_configuration
from toolkit.concept.stored import FUSION, concept_path, name_in, training_of
from toolkit.config.schema import FuseConfig
from toolkit.config.trainer import check_early, is_plain
from toolkit.config.trainer_values import Work
from toolkit.config.untrained import not_trained
from toolkit.errors import InputError
from toolkit.files import check_writable, sha256_of

log = logging.getLogger(__name__)

_VERSION = 1  # of what the stages compute: another one makes earlier fusions anew


def check_asked(config: FuseConfig) -> None:
    """Raise InputError for all that can be told without torch.

    That is a concept that is not trained, a base that is none, or the name of a concept that is no
    fusion.
    """
    check_early(config.trainer.arguments, Work.COMPOSE)
    path = fused_file(config)
    check_writable(path.parent)
    check_local(config.model.path)
    _check_trained(config)
    before = training_of(path)
    if before is not None and FUSION not in before:
        raise InputError(
            f"{path} is a concept of its own, and no fusion: give the fusion another name, as "
            f"name={config.fused_name}_fused"
        )


def fused_already(config: FuseConfig) -> Path | None:
    """The fusion's file if it is there, made as is asked for, and this says so; else None.

    None, too, where only Lightning or the loaded base can tell.
    """
    configuration = read_configuration(config.model.path)
    if configuration is None or not is_plain(config.trainer.arguments):
        return None
    model = config.model
    identity = configuration.identity(model.name, model.dtype or "float32", model.overrides)
    if identity is None or not is_fused(config, fingerprint_of(config, identity)):
        return None
    tell_fused()
    return fused_file(config)


def tell_fused() -> None:
    """Say that nothing is left to do."""
    log.info("it is there already, made of the same concepts")


def fused_file(config: FuseConfig) -> Path:
    """Where the fusion is kept, beside the concepts."""
    return concept_path(config.concepts_folder, config.model.name, config.fused_name)


def concept_files(config: FuseConfig) -> list[Path]:
    """Where the concepts are kept that are fused."""
    return [
        concept_path(config.concepts_folder, config.model.name, name) for name in config.concepts
    ]


def fingerprint_of(config: FuseConfig, base: Identity) -> str:
    """16 hex digits of all that a fusion depends on."""
    recipe = {
        "version": _VERSION,
        "base": [base.architecture, base.weights, *filter(None, [base.overrides])],
        "concepts": [[name_in(file), sha256_of(file)] for file in concept_files(config)],
        "size": [config.model.width, config.model.height],
        **asdict(config.fusion),
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def is_fused(config: FuseConfig, fingerprint: str) -> bool:
    """Whether the fusion is there, whole and of these inputs, and is not to be made anew."""
    before = training_of(fused_file(config))
    return before is not None and before.get(FUSION) == fingerprint and not config.overwrite


def _check_trained(config: FuseConfig) -> None:
    files = zip(config.concepts, concept_files(config), strict=True)
    missing = [name for name, file in files if not file.is_file()]
    if missing:
        raise not_trained(missing, config.model, config)
