"""Fusions that a method needs and nobody made yet: made before its pictures are."""

import logging
from collections.abc import Iterable, Iterator

from toolkit.concept.stored import concept_path
from toolkit.config.schema import ComposeConfig, FuseConfig, FusionConfig
from toolkit.errors import InputError
from toolkit.layout.layout import Layout
from toolkit.processes import is_first_process

log = logging.getLogger(__name__)


def fusions_to_make(config: ComposeConfig, layouts: Iterable[Layout]) -> Iterator[FuseConfig]:
    """What `toolkit fuse` would be asked for, each fusion once."""
    needed = {
        name: layout.concepts for layout in layouts for name in config.method.also_needs(layout)
    }
    for name, concepts in needed.items():
        if not concept_path(config.concepts_folder, config.model.name, name).is_file():
            yield FuseConfig(
                concepts=concepts,
                model=config.model,
                fusion=FusionConfig(),
                trainer=config.trainer,
                output_dir=config.output_dir,
                concepts_dir=config.concepts_dir,
            )


def make_fusions(config: ComposeConfig, layouts: Iterable[Layout]) -> None:
    """Make what is missing, with the defaults of `toolkit fuse`.

    Raises InputError as that does, and in a process that was started beside others, which cannot
    wait for the first one.
    """
    for fusion in fusions_to_make(config, layouts):
        name = fusion.fused_name
        if not is_first_process():
            raise InputError(f"not fused yet: {name}; run toolkit fuse before several processes")
        log.info("%s is not there yet: fused first", name)
        from toolkit.fusion.run import fuse_concepts  # which few methods need

        fuse_concepts(fusion)
