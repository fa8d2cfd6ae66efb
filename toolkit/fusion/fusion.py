"""The fusion, stage by stage: the text encoders, cross-attention's keys and values, the rest.

Every linear map that some concept changes is solved on its own, on inputs that the stages before
have fused already. Tokens are not fused: all concepts' tokens stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from diffusers import DDIMScheduler, SchedulerMixin
from torch import Tensor

from toolkit.backbones import Base, Part
from toolkit.backbones.low_rank import LowRank
from toolkit.backbones.map_change import MapChange
from toolkit.backbones.unet.linear_inputs import input_name, reads_text
from toolkit.concept import Concept
from toolkit.concept.merge import merged
from toolkit.config.schema import FusionConfig, FusionScheduler
from toolkit.errors import InputError
from toolkit.fusion.evidence import See, cross_evidence, picture_evidence, text_evidence
from toolkit.fusion.prompts import shown
from toolkit.fusion.solver import SOLVERS
from toolkit.fusion.store import Store, StoredFile

Changes = Mapping[str, LowRank]
ChangesByPart = Mapping[Part, Changes]
_STORED = {Part.TEXT_ENCODER: "text", Part.TEXT_ENCODER_2: "text_2"}
_NEGLIGIBLE = 1e-6  # of a difference's norm, left out of its low-rank product
_TEXT_ITERATIONS, _PICTURE_ITERATIONS = 500, 50  # as published


@dataclass(frozen=True)
class Maps:
    """The maps that some concept changes, by the stage that solves them."""

    text: Mapping[Part, tuple[str, ...]]
    keys_values: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def count(self) -> int:
        return sum(map(len, (*self.text.values(), self.keys_values, self.others)))


def changed_maps(concepts: Sequence[Concept]) -> Maps:
    """What the fusion of `concepts` has to solve."""
    changed = {
        part: tuple(dict.fromkeys(path for c in concepts for path in c.changes[part]))
        for part in Part
    }
    unet = changed.pop(Part.UNET)
    return Maps(
        {part: paths for part, paths in changed.items() if paths},
        tuple(filter(reads_text, unet)),
        tuple(path for path in unet if not reads_text(path)),
    )


def work_of(concepts: Sequence[Concept], settings: FusionConfig) -> int:
    """How often `fuse` calls `advance`: for each map, and each step of each concept's picture."""
    maps = changed_maps(concepts)
    pictures = len(concepts) * settings.steps if maps.others else 0
    return maps.count + pictures


@torch.no_grad()
def fuse(
    base: Base,
    concepts: Sequence[Concept],
    settings: FusionConfig,
    size: tuple[int, int],
    store: Store,
    advance: Callable[[], object] = lambda: None,
) -> Concept:
    """One concept that knows all tokens, and acts on each concept's prompts as that one does.

    size: width and height in pixels of the pictures that show the concepts. store: what an earlier
    run of the same fusion left there is taken from it.
    Raises InputError for a concept that does not fit the base, that changes more than weights of
    linear maps, or that nothing calls, RunError when a picture stops being finite.
    """
    for concept in concepts:
        concept.check_fits(base)
        _check_linear(base, concept)
        shown(base, concept)
    run = _Run(base, concepts, settings, store, advance)
    text = run.text()
    keys_values = run.keys_values(text)
    others = run.others(text, keys_values, size)
    tokens_only = merged(concepts, [0.0] * len(concepts))
    triggers = [concept.trigger_words for concept in concepts if not concept.token_names]
    return replace(
        tokens_only.with_changes({**text, Part.UNET: keys_values | others}),
        trigger_words=", ".join(triggers),
        base_name=base.name,
        architecture=base.architecture,
        weights=base.weights,
    )


def _check_linear(base: Base, concept: Concept) -> None:
    for part, changes in concept.changes.items():
        linear = base.map_weights(part) if changes else {}
        for path, change in changes.items():
            own = linear.get(path)
            if own is None or change.to(own.device, torch.float32).bias(own[:, 0]) is not None:
                raise InputError(
                    f"concept {concept.name} changes {path}, and a fusion holds no more than the "
                    "weights of linear maps: compose it by method=balanced, or as background"
                )


@dataclass(frozen=True)
class _Run:
    """One fusion under way; each method is a stage and returns the changes that it solved."""

    base: Base
    concepts: Sequence[Concept]
    settings: FusionConfig
    store: Store
    advance: Callable[[], object]

    def text(self) -> dict[Part, dict[str, LowRank]]:
        fused = {}
        for part, paths in changed_maps(self.concepts).text.items():
            names = {input_name(path) for path in paths}
            found = [
                self._kept(
                    f"{_STORED[part]}.{number}", partial(text_evidence, self.base, own, part, names)
                )
                for number, own in enumerate(self.concepts)
            ]
            fused[part] = self._solved(part, paths, found, _TEXT_ITERATIONS)
        return fused

    def keys_values(self, text: ChangesByPart) -> dict[str, LowRank]:
        paths = changed_maps(self.concepts).keys_values
        found = [
            self._kept(f"cross.{number}", partial(cross_evidence, self.base, own, text))
            for number, own in enumerate(self.concepts)
        ]
        return self._solved(Part.UNET, paths, found, _TEXT_ITERATIONS)

    def others(
        self, text: ChangesByPart, keys_values: Changes, size: tuple[int, int]
    ) -> dict[str, LowRank]:
        paths = changed_maps(self.concepts).others
        if not paths:
            return {}
        names = {input_name(path) for path in paths}
        found = []
        for number, (own, noise) in enumerate(zip(self.concepts, self._noises(size), strict=True)):
            if self.store.has(f"picture.{number}"):
                for _ in range(self.settings.steps):
                    self.advance()
            look = partial(
                picture_evidence,
                self.base,
                own,
                text,
                keys_values,
                noise,
                scheduler_of(self.base, self.settings),
                names,
                self.advance,
            )
            found.append(self._kept(f"picture.{number}", look))
        return self._solved(Part.UNET, paths, found, _PICTURE_ITERATIONS)

    def _noises(self, size: tuple[int, int]) -> list[Tensor]:
        """(1, channels, h, w) for each concept, one after the other from one generator."""
        generator = torch.Generator("cpu").manual_seed(self.settings.seed)
        width, height = (side // self.base.pixels_per_latent for side in size)
        shape = (1, self.base.latent_channels, height, width)
        return [torch.randn(shape, generator=generator) for _ in self.concepts]

    def _kept(self, name: str, find: Callable[[See], object]) -> StoredFile:
        """What the solver keeps of the inputs that `find` shows it, by the inputs' names."""
        gather = SOLVERS[self.settings.solver].gather

        def make() -> dict[str, Tensor]:
            kept: dict[str, Tensor] = {}

            def see(name: str, rows: Tensor) -> None:
                kept[name] = gather(kept.get(name), rows)

            find(see)
            return kept

        return self.store.file(name, make)

    def _solved(
        self, part: Part, paths: Sequence[str], found: Sequence[StoredFile], iterations: int
    ) -> dict[str, LowRank]:
        weights = self.base.map_weights(part)
        changes = {}
        for path in paths:

            def solve(path: str = path) -> dict[str, Tensor]:
                weight = weights[path].float()
                own = [own_weight(weight, c, c.changes[part].get(path)) for c in self.concepts]
                seen = [kept[input_name(path)].to(weight.device) for kept in found]
                fused = SOLVERS[self.settings.solver].solve(
                    weight, own, seen, iterations, self.settings.ridge
                )
                change = low_rank(fused - weight)
                return {"down": change.down, "up": change.up}

            halves = self.store.tensors(f"{part}.{path}", solve)
            changes[path] = LowRank(halves["down"], halves["up"])
            self.advance()
        return changes


def own_weight(weight: Tensor, concept: Concept, change: MapChange | None) -> Tensor:
    """(out, in) float32: the base's `weight` as `concept` changes it."""
    if change is None:
        return weight
    own = change.scaled(concept.scale).to(weight.device, torch.float32).weight(weight)
    return weight if own is None else weight + own


def low_rank(difference: Tensor) -> LowRank:
    """(out, in) as the product of the least rank that leaves out nothing that matters."""
    u, s, v = torch.linalg.svd(difference.double(), full_matrices=False)
    left_out = s.square().flip(0).cumsum(0).flip(0).sqrt()  # from each singular value on
    rank = max(int((left_out > _NEGLIGIBLE * left_out[0]).sum()), 1)
    root = s[:rank].sqrt()
    return LowRank((root[:, None] * v[:rank]).float(), (u[:, :rank] * root).float())


def scheduler_of(base: Base, settings: FusionConfig) -> SchedulerMixin:
    """Set to its timesteps. Where the base's config is silent, ddim is Stable Diffusion's own."""
    if settings.scheduler is FusionScheduler.DPM:
        return base.scheduler(settings.steps)
    usual = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    scheduler = DDIMScheduler.from_config({**usual, **base.scheduler_config})
    scheduler.set_timesteps(settings.steps, device=base.device)
    return scheduler
