"""Composing with second passes: each picture is taken further from the file of the first."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.backbones import Base
from toolkit.batch.asked import composition_folder
from toolkit.batch.composition import Composition, failure
from toolkit.batch.journal import Item, is_done, make_room, write_manifest
from toolkit.batch.module import Composer
from toolkit.batch.spent import Spent
from toolkit.batch.writer import CompositionWriter
from toolkit.concept import Concept
from toolkit.config.schema import ComposeConfig, SamplingConfig
from toolkit.errors import ran_out_of_memory
from toolkit.files import sha256_of
from toolkit.images.pictures import read_picture
from toolkit.images.tensors import pixels_of
from toolkit.methods import Method
from toolkit.sampling import Step
from toolkit.second.further import Ready, make_ready, run_to_end, take_further
from toolkit.second.plan import SecondPasses
from toolkit.text.wording import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Second:
    """The second passes of a batch.

    own: the width and height that the base was trained at. firsts: writes the pictures that they
    begin with, and knows where those are.
    """

    plan: SecondPasses
    own: tuple[int, int]
    firsts: CompositionWriter

    def unmade(self, items: Sequence[Item]) -> list[Item]:
        """Those whose first picture is not there, or made from other inputs."""
        firsts = self.firsts
        return [item for item in items if not is_done(item, firsts.recipe, firsts.folder)]

    def make_room(self, items: Sequence[Item], anew: bool, keep_earlier: bool) -> None:
        """Before pictures are made: make room for the first ones that are to be made too.

        anew: all of them, also those that are there and whole.
        """
        unmade = items if anew else self.unmade(items)
        if unmade:
            make_room(unmade, self.firsts.folder, keep_earlier)
        if there := len(items) - len(unmade):
            log.info("%s: there already, and taken further", counted(there, "picture"))


def second_for(config: ComposeConfig, writer: CompositionWriter) -> Second | None:
    """The second passes that a config asks for; None without any.

    writer: of the pictures that have come through them.
    """
    if not config.sampling.is_asked:
        return None
    first = replace(writer.recipe, second={})
    folder = composition_folder(config.first)
    firsts = CompositionWriter(folder, first, writer.figures, writer.provenance)
    return Second(config.sampling, config.model.size, firsts)


def list_firsts(config: ComposeConfig) -> None:
    """Write the manifest of the pictures that second passes began with, where there are such."""
    folder = composition_folder(config.first)
    if config.sampling.is_asked and folder.is_dir():
        write_manifest(folder, config.first.method_name)


def composer_for(
    base: Base,
    concepts: Mapping[str, Concept],
    method: Method,
    sampling: SamplingConfig,
    exemplars: Mapping[str, Path],
    second: Second | None,
) -> Composer:
    """What makes the pictures, and takes them through their second passes where there are any."""
    if second is not None:
        return FurtherComposer(base, concepts, method, sampling, exemplars, second)
    steps, guidance_scale = sampling.steps, sampling.guidance_scale
    return Composer(base, concepts, method, steps, guidance_scale, exemplars)


class FurtherComposer(Composer):
    """Makes the first picture of an item where there is none yet, and takes it further.

    The first is written and read again, so that a picture is the same whether its first was there
    or not. One that fails on the way leaves its first, with which the next run goes on.
    """

    def __init__(
        self,
        base: Base,
        concepts: Mapping[str, Concept],
        method: Method,
        sampling: SamplingConfig,
        exemplars: Mapping[str, Path],
        second: Second,
    ) -> None:
        super().__init__(base, concepts, method, sampling.steps, sampling.guidance_scale, exemplars)
        self.second = second
        self.ready_further: dict[str, Ready] = {}

    def passes_of(self, item: Item) -> int:
        """The denoising steps of one picture, those of its first among them."""
        second = self.second
        return super().passes_of(item) + second.plan.passes(item.layout, self.steps, second.own)

    def encode(self, item: Item) -> None:
        """Encode what a picture needs, before it is made."""
        if self.second.unmade([item]):
            super().encode(item)
        self._ready(item)

    def _compose(self, batch: Sequence[Item]) -> list[Composition]:
        if unmade := self.second.unmade(batch):
            for first in super()._compose(unmade):
                self.second.firsts.write(first, self.global_rank)
        return [self._take_further(item) for item in batch]

    def _take_further(self, item: Item) -> Composition:
        """One picture; one that fails takes no other along."""
        spent, composition = Spent(self.base), Composition(item)
        first = item.path(self.second.firsts.folder, ".png")
        number = super().passes_of(item)
        try:
            taken = run_to_end(
                take_further(
                    self.base,
                    self.method,
                    self._ready(item),
                    pixels_of(read_picture(first)),
                    item.seed,
                    self.second.plan,
                    self.second.own,
                    self.steps,
                    self.guidance_scale,
                ),
                self._watch_from(number),
            )
        except Exception as error:
            failed = failure(item, error)
            if ran_out_of_memory(error):
                failed.error = f"{failed.error}; sampling.tile= takes less"
            return failed
        composition.pixels = taken.pixels
        begun = {"method": first.parent.parent.name, "sha256": sha256_of(first)}
        composition.further = {"first": begun, **taken.done}
        spent.write_into([composition])
        return composition

    def _watch_from(self, number: int) -> Callable[[Step], None]:
        """Show steps as those that follow a picture's first `number`."""
        count = 0

        def watch(step: Step) -> None:
            nonlocal count
            self.on_step(replace(step, number=number + count))
            count += 1

        return watch

    def _ready(self, item: Item) -> Ready:
        """The layout, encoded; kept while items of the same layout follow one another."""
        layout = item.layout
        if layout.name not in self.ready_further:
            second = self.second
            ready = make_ready(
                self.base, self.method, layout, self.concepts, second.plan, second.own
            )
            self.ready_further = {layout.name: ready}
        return self.ready_further[layout.name]
