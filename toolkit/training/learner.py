"""What every recipe's training has: the base it sees, its checkpoints, what it says by now."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from toolkit.backbones import Base, Encodings
from toolkit.concept import Concept


class Learner(LightningModule):
    """One concept's training.

    settings: what the result depends on, for the record.
    """

    measures: ClassVar[tuple[str, ...]]
    """What each line of metrics.csv says between the step and the seconds."""

    def __init__(self, base: Base, name: str, settings: Mapping[str, str], steps: int) -> None:
        super().__init__()
        self.base = base
        for network, module in base.networks.items():
            self.add_module(network, module)
        self.name = name
        self.settings = dict(settings)
        self.steps = steps
        self.schedule = base.noise_schedule()
        self.strict_loading = False  # a checkpoint holds only what trains

    @abstractmethod
    def heard(self, prompt: str) -> Encodings:
        """One prompt that says <name>, as it is read by now."""

    @abstractmethod
    def concept(self, class_word: str) -> Concept:
        """What was learned so far."""

    def measured_rates(self, optimizer: Optimizer) -> dict[str, float]:
        """Learning rates to be measured, by name."""
        return {}

    @contextmanager
    def as_written(self) -> Iterator[None]:
        """Hold the weights that would be written now, for the length of the block."""
        yield

    def hold_written(self, best: Mapping[str, Tensor] | None) -> None:
        """Hold the weights that are written, once training is over.

        best: those that validation found, by name; None: those of the last step.
        """
        return

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen base out of the file, and say what it was trained with."""
        checkpoint["settings"] = self.settings
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {
            name: value for name, value in checkpoint["state_dict"].items() if name in trained
        }
