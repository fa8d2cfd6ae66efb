"""Training what Cones 2 adds to its class word (arXiv 2305.19327), as a LightningModule."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional

from toolkit.backbones import Base, Encodings, Part
from toolkit.backbones.families import two_text_encoders
from toolkit.concept import Concept
from toolkit.config.cones2 import Cones2Config
from toolkit.errors import InputError, RunError
from toolkit.training.data import TrainingBatch
from toolkit.training.learner import Learner
from toolkit.training.residual import moved, residual


@dataclass(frozen=True)
class Losses:
    """One step's, as scalars: of the noise, and how far the encoding moved at two kinds of place.

    start: where the text begins. rest: behind the class word.
    """

    denoising: Tensor
    start: Tensor
    rest: Tensor


class Cones2Training(Learner):
    """The whole text encoder learns to say the concept with the class word and nothing else.

    What the class word alone is encoded as is held still at all places but its own, so that the
    difference at its own can be lent to any prompt that says the word. To be used under the base's
    `heard_by_layer`.
    """

    measures = ("loss", "denoising", "start_moved", "rest_moved")
    before: Tensor

    def __init__(
        self,
        base: Base,
        name: str,
        settings: Mapping[str, str],
        class_word: str,
        options: Cones2Config,
    ) -> None:
        if len(base.readers) > 1:
            raise two_text_encoders(base.name)
        super().__init__(base, name, settings, options.steps)
        self.class_word = class_word
        self.options = options
        self.prompt = base.tokenise(class_word)
        mentions = base.mentions(class_word, self.prompt)
        if self.prompt.lost or not mentions:
            raise InputError(f"concept.class_word={class_word}: the text encoder cannot read it")
        self.word = mentions[0]
        self.tuned = base.trainable_text_encoder()
        with torch.no_grad():
            before = base.encode_by(self.tuned, self.prompt)
        self.register_buffer("before", before, persistent=False)

    def losses(self, batch: TrainingBatch) -> Losses:
        """What the sum that is made smaller consists of."""
        encoding = self.base.encode_by(self.tuned, self.prompt)
        noisy = self.schedule.noisy(batch.latents, batch.noise, batch.timesteps)
        wanted = self.schedule.target(batch.latents, batch.noise, batch.timesteps)
        prediction = self.base.predict(noisy, batch.timesteps, self._shared(encoding, len(noisy)))
        errors = functional.mse_loss(prediction.float(), wanted.float(), reduction="none")
        start, rest = moved(encoding - self.before, self.word)
        return Losses((errors.flatten(1).mean(dim=1) * batch.weights).mean(), start, rest)

    def sum_of(self, losses: Losses) -> Tensor:
        """Their weighted sum, a scalar."""
        held = self.options.start_weight * losses.start + self.options.rest_weight * losses.rest
        return losses.denoising + held

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """The loss of one batch. Raises RunError when it is not finite."""
        losses = self.losses(batch)
        loss = self.sum_of(losses)
        if not loss.isfinite():
            raise RunError(
                f"the loss is not a number at step {self.global_step} of {self.steps}: lower "
                "training.learning_rate, or take trainer.precision=32-true"
            )
        self.log("loss", loss)
        self.log("denoising", losses.denoising)
        self.log("start_moved", losses.start)
        self.log("rest_moved", losses.rest)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW at a constant rate."""
        return torch.optim.AdamW(
            self.tuned.parameters(),
            lr=self.options.learning_rate,
            weight_decay=self.options.weight_decay,
        )

    @torch.no_grad()
    def heard(self, prompt: str) -> Encodings:
        """One prompt, its class word read as the concept."""
        said = self.base.tokenise(prompt.replace(f"<{self.name}>", self.class_word))
        return self._shared(self.base.encode_by(self.tuned, said), 1)

    def concept(self, class_word: str) -> Concept:
        """What was learned so far, on the CPU."""
        return Concept(
            name=self.name,
            embeddings=torch.zeros(0, *self.base.embedding_shapes[Part.TEXT_ENCODER]),
            token_names=(),
            unet={},
            text_encoder={},
            class_word=class_word,
            trigger_words=class_word,
            base_name=self.base.name,
            architecture=self.base.architecture,
            weights=self.base.weights,
            training=self.settings,
            residual=residual(self.base, self.tuned, class_word).cpu(),
        )

    def _shared(self, encoding: Tensor, pictures: int) -> Encodings:
        """A prompt's (places, width) in the base's type: all pictures and layers hear the same."""
        of_all = encoding.to(self.base.dtype).expand(pictures, self.base.transformers, -1, -1)
        return Encodings(of_all)
