"""A job's pictures, made one after another on a base that stays loaded."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from toolkit.backbones import Base, load_base
from toolkit.backbones.waiting import WAIT_WHILE_COMPOSING
from toolkit.batch.asked import Asked, checked, composition_folder
from toolkit.batch.composition import refined_step
from toolkit.batch.concepts import read_concept
from toolkit.batch.further import composer_for, list_firsts, second_for
from toolkit.batch.fusions import make_fusions
from toolkit.batch.journal import Item, is_done, make_room, recipe_of
from toolkit.batch.report import end_of_composing
from toolkit.batch.writer import CompositionWriter
from toolkit.concept import Concept
from toolkit.concept.cache import ConceptCache
from toolkit.config import ComposeConfig, ModelConfig, read_import
from toolkit.exchange import import_concept
from toolkit.images.tensors import image_of
from toolkit.layout.files import Lines
from toolkit.methods.checks import check
from toolkit.sampling import Step
from toolkit.ui.events import Begun, Event, Finished, Sampled
from toolkit.ui.orders import Order
from toolkit.ui.preview import colours_of, fit_colours, png_of, shade_of

_CONCEPTS_HELD = 16


class Cancelled(BaseException):
    """The job is to end now. No Exception: those are taken for a picture that failed."""


class Maker:
    """The loaded base, and what is made on it."""

    def __init__(self, model: ModelConfig) -> None:
        """Load the base. Raises InputError for what is none."""
        self.base: Base = load_base(
            model.path,
            model.name,
            guidance_downscale=model.guidance_downscale,
            guidance_layers=model.guidance_layers,
            prediction_type=model.prediction_type,
            device=torch.accelerator.current_accelerator() or torch.device("cpu"),
            dtype=getattr(torch, model.dtype or "float32"),
            compiled=model.compile,
            waiting=WAIT_WHILE_COMPOSING if model.offload else (),
        )
        self.colours = None if self.base.vae is None else fit_colours(self.base)
        self._held: dict[tuple[Path, int], Concept] = {}
        self._tokenising = threading.Lock()  # the tokeniser is not for two threads at once

    def check(self, order: Order) -> list[str]:
        """What is odd about a layout, a line each. Raises InputError for one that cannot be made.

        It may be called from another thread while a picture is made.
        """
        asked = _asked(order)
        with self._tokenising:
            method = order.compose_config.method
            return check(order.drawn, self.base, self._concepts(asked), method)

    def compose(
        self, order: Order, tell: Callable[[Event], None], stopped: Callable[[], bool]
    ) -> None:
        """Make every picture that is not there yet, and leave the files of `toolkit compose`.

        Raises InputError for what is wrong, Cancelled when `stopped`, OSError for a full disk.
        """
        config = order.compose_config
        asked = _asked(order)
        make_fusions(config, asked.usable)
        concepts = self._concepts(asked)
        with self._tokenising:
            check(order.drawn, self.base, concepts, config.method)
        folder = composition_folder(config)
        items = [Item(order.drawn, seed) for seed in config.seeds]
        writer = self._writer(asked, config, folder)
        second = second_for(config, writer)
        module = composer_for(
            self.base, concepts, config.method, config.sampling, asked.exemplars, second
        )
        reached: list[Item] = []
        try:
            for item in items:
                if stopped():
                    raise Cancelled
                image = str(item.path(folder, ".png").relative_to(config.output_dir))
                if not config.overwrite and is_done(item, writer.recipe, folder):
                    tell(Finished(item.seed, image))
                    continue
                tell(Begun(item.seed))
                make_room([item], folder, config.keep_earlier)
                if second is not None:
                    second.make_room([item], config.overwrite, config.keep_earlier)
                with self._tokenising, suppress(Exception):  # predict_step tells it
                    module.encode(item)
                steps = module.passes_of(item)
                module.on_step = partial(self._watch, order, item, steps, tell, stopped)
                (composition,) = module.predict_step([item], 0)
                reached.append(item)
                writer.write(composition, rank=0)
                error = composition.error
                tell(Finished(item.seed, "" if error else image, error, composition.seconds))
        finally:
            list_firsts(config)
            end_of_composing(reached, reached, folder, config.method_name, [])

    def import_file(self, order: Order) -> None:
        """Keep a file that others made as a concept. Raises InputError for what is none."""
        config = read_import(order.arguments)
        with self._tokenising:
            import_concept(config, self.base)

    def _watch(
        self,
        order: Order,
        item: Item,
        steps: int,
        tell: Callable[[Event], None],
        stopped: Callable[[], bool],
        step: Step,
    ) -> None:
        if stopped():
            raise Cancelled
        if step.number < 0:
            return
        refined = refined_step(step.number, step.guidance[0]) if step.guidance else None
        every = order.preview_every
        shown = every > 0 and (step.number % every == every - 1 or step.number == 0)
        tell(
            Sampled(
                item.seed,
                step.number,
                steps,
                refined.losses if refined else {},
                self._preview(step.clean[0], order.decoded) if shown else b"",
                tuple(png_of(shade_of(one)) for one in refined.maps) if refined and shown else (),
            )
        )

    def _preview(self, clean: Tensor, decoded: bool) -> bytes:
        if self.colours is None:
            return b""
        if decoded:
            with torch.no_grad():
                return png_of(image_of(self.base.decode(clean[None])[0]))
        return png_of(colours_of(clean, self.colours))

    def _writer(self, asked: Asked, config: ComposeConfig, folder: Path) -> CompositionWriter:
        recipe = recipe_of(
            self.base.identity,
            asked.usable,
            asked.files,
            config.method,
            config.sampling.steps,
            config.sampling.guidance_scale,
            asked.exemplars,
            config.sampling.record(config.model.size),
        )
        return CompositionWriter(folder, recipe, config.figures, config.provenance)

    def _concepts(self, asked: Asked) -> Mapping[str, Concept]:
        return ConceptCache(asked.files, self._read)

    def _read(self, name: str, path: Path) -> Concept:
        """A concept, from memory while its file stays as it was."""
        key = path, path.stat().st_mtime_ns
        if key not in self._held:
            while len(self._held) >= _CONCEPTS_HELD:
                del self._held[next(iter(self._held))]
            self._held[key] = read_concept(name, path, self.base)
        return self._held[key]


def _asked(order: Order) -> Asked:
    config = order.compose_config
    return checked(
        [order.drawn], Lines({}, ()), config, config.model, config.method, config.sampling
    )
