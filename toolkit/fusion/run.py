"""`toolkit fuse`: from a checked config to one concept that holds several."""

import hashlib
import json
import logging
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from toolkit.backbones import load_base
from toolkit.concept.file import concept_path, load_concept, save_concept
from toolkit.config.lookup import training_arguments
from toolkit.config.schema import FuseConfig
from toolkit.errors import InputError
from toolkit.files import check_writable, sha256_of
from toolkit.fusion.fusion import fuse, work_of
from toolkit.fusion.store import Store
from toolkit.trainer import Work, check_trainer

log = logging.getLogger(__name__)

_FINGERPRINT = "fusion"
_VERSION = 1  # of what the stages compute: another one makes earlier fusions anew


def fuse_concepts(config: FuseConfig) -> Path:
    """Fuse the concepts, unless that is done already; returns the fused concept's file.

    What is worked out on the way stays in a hidden folder beside it until the fusion is whole, so
    that the same command goes on where an earlier one was ended.
    Raises InputError when a concept is not there or does not fit, or when a concept that is no
    fusion has the name.
    """
    trainer = check_trainer(config.trainer.arguments, Work.COMPOSE)
    for remark in trainer.remarks:
        log.warning("%s", remark)
    model = config.model
    path = concept_path(config.output_dir, model.name, config.fused_name)
    check_writable(path.parent)
    files = [concept_path(config.output_dir, model.name, name) for name in config.concepts]
    _check_trained(config, files)
    before = load_concept(path) if path.exists() else None
    if before is not None and _FINGERPRINT not in before.training:
        raise InputError(
            f"{path} is a concept of its own, and no fusion: give the fusion another name, as "
            f"name={config.fused_name}_fused"
        )
    concepts = [load_concept(file) for file in files]
    device = trainer.make().strategy.root_device
    base = load_base(
        model.path,
        model.name,
        guidance_downscale=model.guidance_downscale,
        device="cpu" if device.type == "mps" else device,  # which has no float64
        dtype=trainer.dtype_of_base(model.dtype),
    )
    recipe = {
        "version": _VERSION,
        "base": [base.architecture, base.weights],
        "concepts": [[c.name, sha256_of(f)] for c, f in zip(concepts, files, strict=True)],
        "size": [model.width, model.height],
        **asdict(config.fusion),
    }
    fingerprint = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    if before is not None and before.training[_FINGERPRINT] == fingerprint and not config.overwrite:
        log.info("it is there already, made of the same concepts")
        return path
    work = path.parent / f".{config.fused_name}.fusion"
    if config.overwrite:
        shutil.rmtree(work, ignore_errors=True)
    with tqdm(
        total=work_of(concepts, config.fusion),
        unit="step",
        desc=f"fusing {len(concepts)}",
        mininterval=0.2 if sys.stderr.isatty() else 10.0,  # in a log every line stays
    ) as bar:
        fused = fuse(
            base,
            concepts,
            config.fusion,
            (model.width, model.height),
            Store(work / fingerprint),
            bar.update,
        )
    about = {_FINGERPRINT: fingerprint, "concepts": ",".join(config.concepts)}
    about |= {name: str(value) for name, value in asdict(config.fusion).items()}
    save_concept(replace(fused, name=config.fused_name, training=about), path)
    shutil.rmtree(work, ignore_errors=True)
    return path


def _check_trained(config: FuseConfig, files: list[Path]) -> None:
    missing = [n for n, file in zip(config.concepts, files, strict=True) if not file.is_file()]
    if missing:
        model = config.model
        typed = training_arguments(missing, model.name, model.path, config.output_dir)
        raise InputError(f"not trained yet: {', '.join(missing)}; run: toolkit train {typed}")
