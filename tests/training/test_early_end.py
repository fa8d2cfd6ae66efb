"""A training that did not reach its last step leaves a checkpoint and no concept."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from toolkit.concept import load_concept
from toolkit.config.schema import TrainConfig
from toolkit.errors import RunError
from toolkit.training.run import train

MakeConfig = Callable[..., TrainConfig]


def embeddings(path: Path) -> torch.Tensor:
    return load_concept(path).embeddings.float()


@pytest.mark.parametrize(
    ("argument", "reached"),
    [
        ({"max_time": {"microseconds": 1}}, 1),
        ({"fast_dev_run": True}, 1),
        ({"fast_dev_run": 3}, 3),
        ({"limit_train_batches": 0}, 0),
    ],
)
def test_the_same_command_without_what_ended_it_goes_on(
    argument: dict[str, object], reached: int, make_config: MakeConfig, tmp_path: Path
) -> None:
    whole = train(make_config(output_dir=tmp_path / "whole"))
    with pytest.raises(RunError, match=f"ended early, at step {reached} of 4: no concept"):
        train(make_config(trainer=argument, checkpoint_every_steps=100))
    assert not list((tmp_path / "outputs").rglob("*.safetensors"))
    checkpoint = tmp_path / "outputs/runs/train/tiny/rex/checkpoints/last.ckpt"
    if reached:
        assert torch.load(checkpoint, weights_only=True)["global_step"] == reached
    resumed = train(make_config(checkpoint_every_steps=100))
    torch.testing.assert_close(embeddings(resumed), embeddings(whole), atol=1e-6, rtol=0)


def test_more_steps_than_were_asked_for_are_no_training_either(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="went on to step 6, beyond its 4"):
        train(make_config(trainer={"fast_dev_run": 6}))
    assert not list((tmp_path / "outputs").rglob("*.safetensors"))


def test_an_earlier_concept_that_stays_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    path = train(make_config())
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"rex\.safetensors is of an earlier training"):
        train(make_config(seed=1, trainer={"fast_dev_run": True}))
    assert path.read_bytes() == before


def test_a_limit_of_batches_does_not_show_the_same_ones_again(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    whole = train(make_config(output_dir=tmp_path / "whole"))
    limited = train(make_config(trainer={"limit_train_batches": 1}))
    torch.testing.assert_close(embeddings(limited), embeddings(whole), atol=1e-6, rtol=0)
