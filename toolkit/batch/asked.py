"""What a batch is asked for: its layouts, checked as far as files tell, without torch."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.backbones.families import two_text_encoders
from toolkit.backbones.source import check_local
from toolkit.backbones.unet.configuration import read_configuration
from toolkit.batch.concepts import concept_files
from toolkit.batch.exemplars import exemplars_of
from toolkit.concept.stored import CONES2, images_in
from toolkit.config.schema import ComposeConfig, Folders, ModelConfig, SampleConfig
from toolkit.errors import InputError, one_line, shortened
from toolkit.files import check_writable
from toolkit.layout.files import Lines, Rejected, read_layouts, read_lines
from toolkit.layout.layout import Layout, names_concept
from toolkit.methods import Method
from toolkit.second.plan import SecondPasses


@dataclass
class Asked:
    """The layouts to make.

    layouts: a wrong one of these ends the command.
    numbered: those of a layouts file, by line: wrong ones are left out, and stand in `rejected`.
    files: of every concept that they name. exemplars: an image of each, for methods that ask.
    named: whether the person knows the layouts by name. A sample's is made here, and what is said
        of it does not speak of a layout.
    """

    layouts: list[Layout]
    numbered: dict[int, Layout]
    rejected: list[Rejected]
    files: dict[str, Path]
    exemplars: dict[str, Path] = field(default_factory=dict)
    named: bool = True

    @property
    def usable(self) -> list[Layout]:
        """All that can be made, as far as it was looked at."""
        return [*self.layouts, *self.numbered.values()]

    def check_each(self, check_one: Callable[[Layout], None]) -> None:
        """Check every layout. Raises InputError for what must be right, or when nothing is left."""
        for layout in self.layouts:
            with nullcontext() if self.named else _unnamed(layout.name):
                check_one(layout)
        for number, layout in list(self.numbered.items()):
            try:
                check_one(layout)
            except Exception as error:  # whatever it is, the other lines are not to suffer
                self.rejected.append(Rejected(number, layout.name, one_line(error)))
                del self.numbered[number]
        if not self.layouts and not self.numbered:
            _refuse(self.rejected)


def composition_folder(config: ComposeConfig) -> Path:
    """Where a method's pictures go."""
    return config.output_dir / "compose" / config.method_name


def sample_folder(config: SampleConfig) -> Path:
    """Where pictures of one concept go."""
    return config.output_dir / "sample" / config.model.name / config.concept


def asked_to_compose(config: ComposeConfig) -> Asked:
    """The layouts of `toolkit compose`, and the files of their concepts.

    Raises InputError for a wrong layout, for a base that is none, for a concept that is not
    trained, for a size that the base cannot make, and for a folder that cannot be written to.
    """
    check_writable(composition_folder(config))
    layouts = read_layouts(config.layouts)
    lines = read_lines(config.layouts_file) if config.layouts_file else Lines({}, ())
    if config.strict:
        _refuse(lines.rejected)
        layouts += lines.layouts.values()
        lines = Lines({}, ())
    return checked(layouts, lines, config, config.model, config.method, config.sampling)


def asked_to_sample(config: SampleConfig) -> Asked:
    """A canvas that the concept shapes as its background. Raises InputError as composing does."""
    check_writable(sample_folder(config))
    if not names_concept(config.prompt, config.concept):
        raise InputError(
            f"prompt={shortened(config.prompt)} does not name the concept: write "
            f"<{config.concept}> in it",
            "prompt",
        )
    name = folder_of(config.prompt, config.concept)
    with _unnamed(name):
        layout = Layout(
            name=name,
            prompt=config.prompt,
            negative_prompt=config.negative_prompt,
            width=config.width,
            height=config.height,
            background=config.concept,
        )
    return checked([layout], Lines({}, ()), config, config.model, named=False)


@contextmanager
def _unnamed(layout: str) -> Iterator[None]:
    """What is wrong is said without the layout's name."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).removeprefix(f"layout {layout}: "), error.path) from error


def folder_of(prompt: str, concept: str) -> str:
    """A folder's name for a prompt, no other prompt's.

    Where it is more than the concept and small plain letters, a hash tells it from prompts that
    differ in what is dropped, cut, or in another case (which some file systems do not tell apart).
    """
    kept = re.sub(r"[^\w-]+", "-", prompt).strip("-")
    if re.fullmatch(rf"<{re.escape(concept)}>( [a-z0-9_]+)*", prompt) and len(kept) <= 60:
        return kept
    cut = kept.encode()[:120].decode(errors="ignore")
    return f"{cut}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}".lstrip("-")


def checked(
    layouts: Sequence[Layout],
    lines: Lines,
    folders: Folders,
    model: ModelConfig,
    method: Method | None = None,
    plan: SecondPasses | None = None,
    named: bool = True,
) -> Asked:
    """Layouts that have been read, with the files of their concepts. Raises InputError as above.

    plan: the second passes of their pictures.
    """
    asked = Asked(list(layouts), dict(lines.layouts), list(lines.rejected), {}, named=named)
    check_local(model.path)  # what is no base is told before what is not trained on it
    configuration = read_configuration(model.path)
    two_encoders = configuration is not None and configuration.text_encoder_2 is not None
    if two_encoders and method is not None and method.recipe == CONES2:
        raise two_text_encoders(model.name)
    asked.files.update(concept_files(layouts, folders, model, method))
    asked.check_each(lambda one: asked.files.update(concept_files([one], folders, model, method)))
    if method is not None:
        asked.check_each(method.check)
        _find_exemplars(asked, method)
    sizes = configuration and configuration.sizes(model.guidance_downscale)
    if sizes:
        asked.check_each(lambda layout: sizes.check_layout(layout, model.name))
    if plan is not None:
        if configuration is not None:
            plan.check_base(configuration.vae is not None, model.name)
        asked.check_each(lambda layout: plan.check_layout(layout, sizes or None, model.name))
    return asked


def _find_exemplars(asked: Asked, method: Method) -> None:
    """Find the image of each concept, where the method is shown one."""

    def trained_from(concept: str) -> str:
        return images_in(asked.files[concept])

    asked.check_each(lambda one: asked.exemplars.update(exemplars_of(one, method, trained_from)))


def _refuse(rejected: Sequence[Rejected]) -> None:
    """Raise InputError for the first of wrong lines, if there is one."""
    if rejected:
        first = min(rejected, key=lambda wrong: wrong.line)
        more = f" (and {len(rejected) - 1} more wrong lines)" if len(rejected) > 1 else ""
        raise InputError(f"line {first.line} of the layouts file: {first.error}{more}")
