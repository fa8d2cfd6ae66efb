"""The trainer's keys are Lightning's."""

import inspect

from toolkit.config.trainer import RESERVED, trainer_arguments


def test_the_names_read_from_the_source_are_those_of_the_signature() -> None:
    from lightning import Trainer

    assert {*trainer_arguments(), *RESERVED, "self"} == set(
        inspect.signature(Trainer.__init__).parameters
    )
