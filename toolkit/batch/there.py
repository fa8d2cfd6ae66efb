"""Whether all pictures are there already: told without torch, where the base's files tell."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.backbones.unet.configuration import read_configuration
from toolkit.batch.asked import (
    Asked,
    asked_to_compose,
    asked_to_sample,
    composition_folder,
    sample_folder,
)
from toolkit.batch.failures import tell_rejected
from toolkit.batch.journal import Item, is_done, recipe_of
from toolkit.batch.report import end_of_composing, report, tell_all_there
from toolkit.config.schema import ComposeConfig, ModelConfig, SampleConfig, SamplingConfig
from toolkit.config.trainer import check_early, is_plain
from toolkit.config.trainer_values import Work
from toolkit.methods import Method
from toolkit.methods.lora_composer import PUBLISHED


def composed_already(config: ComposeConfig) -> int | None:
    """End `toolkit compose` with its exit code if nothing is left to make; else None.

    None, too, where only Lightning or the loaded base can tell. Raises InputError for what is wrong
    and can be told without them.
    """
    check_early(config.trainer.arguments, Work.COMPOSE)
    asked = asked_to_compose(config)
    items = [Item(layout, seed) for layout in asked.usable for seed in config.seeds]
    folder = composition_folder(config)
    if config.overwrite or config.logger.kind == "wandb":
        return None
    if not _all_there(
        asked,
        items,
        folder,
        config.model,
        config.method,
        config.sampling,
        config.trainer.arguments,
        config.sampling.record(config.model.size),
    ):
        return None
    tell_rejected(asked.rejected)
    tell_all_there(items)
    return end_of_composing([], items, folder, config.method_name, asked.rejected)


def sampled_already(config: SampleConfig) -> int | None:
    """End `toolkit sample` with its exit code if nothing is left to make; else None."""
    check_early(config.trainer.arguments, Work.COMPOSE)
    asked = asked_to_sample(config)
    items = [Item(layout, seed) for layout in asked.usable for seed in config.seeds]
    folder = sample_folder(config)
    if not _all_there(
        asked, items, folder, config.model, PUBLISHED, config.sampling, config.trainer.arguments
    ):
        return None
    tell_all_there(items)
    return 1 if report([], items, folder) else 0


def _all_there(
    asked: Asked,
    items: Sequence[Item],
    folder: Path,
    model: ModelConfig,
    method: Method,
    sampling: SamplingConfig,
    trainer: Mapping[str, Any],
    second: Mapping[str, Any] | None = None,
) -> bool:
    """Whether every picture is known to be there, made from what is asked for now.

    second: as `Recipe` has it.
    """
    configuration = read_configuration(model.path)
    if configuration is None or not is_plain(trainer):
        return False
    if not all(file.is_file() for file in asked.files.values()):
        return False  # a fusion is still to be made
    identity = configuration.identity(model.name, model.dtype or "float32", model.overrides)
    if identity is None:
        return False
    recipe = recipe_of(
        identity,
        asked.usable,
        asked.files,
        method,
        sampling.steps,
        sampling.guidance_scale,
        asked.exemplars,
        second,
    )
    return all(is_done(item, recipe, folder) for item in items)
