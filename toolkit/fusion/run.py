"""`toolkit fuse`: from a checked config to one concept that holds several."""

import logging
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from toolkit.backbones import load_base
from toolkit.concept.file import load_concept, save_concept
from toolkit.concept.stored import FUSION
from toolkit.config.schema import FuseConfig
from toolkit.config.trainer_values import Work
from toolkit.fusion.asked import (
    check_asked,
    concept_files,
    fingerprint_of,
    fused_file,
    is_fused,
    tell_fused,
)
from toolkit.fusion.fusion import fuse, work_of
from toolkit.fusion.store import Store
from toolkit.trainer import check_trainer

log = logging.getLogger(__name__)


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
    check_asked(config)
    model, path = config.model, fused_file(config)
    if path.exists():
        load_concept(path)  # what is damaged is told, and not replaced
    concepts = [load_concept(file) for file in concept_files(config)]
    device = trainer.make().strategy.root_device
    base = load_base(
        model.path,
        model.name,
        guidance_downscale=model.guidance_downscale,
        guidance_layers=model.guidance_layers,
        prediction_type=model.prediction_type,
        device="cpu" if device.type == "mps" else device,  # which has no float64
        dtype=trainer.dtype_of_base(model.dtype),
    )
    fingerprint = fingerprint_of(config, base.identity)
    if is_fused(config, fingerprint):
        tell_fused()
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
    about = {FUSION: fingerprint, "concepts": ",".join(config.concepts)}
    about |= {name: str(value) for name, value in asdict(config.fusion).items()}
    save_concept(replace(fused, name=config.fused_name, training=about), path)
    shutil.rmtree(work, ignore_errors=True)
    return path
