"""Training an ED-LoRA, as a LightningModule."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from toolkit.backbones import Base, CrossAttentionMaps, Encodings, Part, Place, TokenisedPrompt
from toolkit.concept import Concept
from toolkit.errors import RunError
from toolkit.training.data import TrainingBatch
from toolkit.training.ed_lora import export_concept, token_names
from toolkit.training.learner import Learner
from toolkit.training.loss import attention_loss, masked_mse, mean_norm, min_snr_weight
from toolkit.training.optimisers import (
    AS_PUBLISHED,
    LearningRates,
    Optimisation,
    averaged,
    make_optimiser,
    parameter_groups,
    schedule_of,
)


class ConceptTraining(Learner):
    """One concept's training: the base with a LoRA injected, and the concept's embeddings.

    To be used under the base's `lora_injected` and `heard_by_layer`, fit and export alike.
    settings: what the result depends on, for the record. embeddings: for each text encoder
        (2, layers, width) to start from. max_embedding_norm: see `mean_norm`; None: no limit.
    recorder: collects the maps for the attention regulariser; None when its weight is 0.
    """

    measures = ("loss", "embedding_norm", "learning_rate_unet")

    def __init__(
        self,
        base: Base,
        name: str,
        settings: Mapping[str, str],
        embeddings: Mapping[Part, Tensor],
        rates: LearningRates,
        steps: int,
        mask_loss: bool = True,
        max_embedding_norm: float | None = None,
        attention_weight: float = 0.0,
        recorder: CrossAttentionMaps | None = None,
        optimisation: Optimisation = AS_PUBLISHED,
        min_snr_gamma: float | None = None,
        ema_decay: float = 0.0,
    ) -> None:
        super().__init__(base, name, settings, steps)
        self.embeddings = nn.Parameter(embeddings[Part.TEXT_ENCODER])
        second = embeddings.get(Part.TEXT_ENCODER_2)
        self.embeddings_2 = None if second is None else nn.Parameter(second)
        self.rates = rates
        self.mask_loss = mask_loss
        self.max_embedding_norm = max_embedding_norm
        self.attention_weight = attention_weight
        self.recorder = recorder
        self.optimisation = optimisation
        self.min_snr_gamma = min_snr_gamma
        self.ema_decay = ema_decay
        self.averages: dict[str, Tensor] = {}
        self.unchanging: dict[TokenisedPrompt, Encodings] = {}
        self.optimiser: Any = None
        for parameter in self._still():
            parameter.requires_grad_(False)

    @property
    def token_embeddings(self) -> dict[Part, nn.Parameter]:
        """The embeddings as they are now, for each text encoder."""
        first = {Part.TEXT_ENCODER: self.embeddings}
        return (
            first if self.embeddings_2 is None else first | {Part.TEXT_ENCODER_2: self.embeddings_2}
        )

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """The loss of one batch. Raises RunError when it is not finite."""
        prompts = self.prompts(batch)
        if self.recorder is not None:
            self.recorder.forget()
        loss = (self.errors(batch, prompts) * self.weights(batch)).mean()
        if self.recorder is not None:
            regularisation = self.regularisation(self.recorder.mean(), prompts, batch)
            loss = loss + self.attention_weight * regularisation
        if not any(prompt.concept_tokens for prompt in prompts):
            for embeddings in self.token_embeddings.values():
                loss = loss + 0 * embeddings.sum()  # processes that train together need a gradient
        if not loss.isfinite():
            raise RunError(
                f"the loss is not a number at step {self.global_step} of {self.steps}: lower the "
                "learning rates (training.learning_rate_unet and its like), or take "
                "trainer.precision=32-true"
            )
        self.log("loss", loss)
        return loss

    def prompts(self, batch: TrainingBatch) -> list[TokenisedPrompt]:
        """A batch's captions, as the text encoder reads them."""
        return [self.tokenise(caption) for caption in batch.captions]

    def errors(self, batch: TrainingBatch, prompts: Sequence[TokenisedPrompt]) -> Tensor:
        """(n,) the loss of each picture of a batch, eq. 1."""
        noisy = self.schedule.noisy(batch.latents, batch.noise, batch.timesteps)
        wanted = self.schedule.target(batch.latents, batch.noise, batch.timesteps)
        prediction = self.base.predict(
            noisy, batch.timesteps, self.encodings(prompts), batch.framings
        )
        inside = batch.masks if self.mask_loss else torch.ones_like(batch.masks)
        return masked_mse(prediction, wanted, inside)

    def weights(self, batch: TrainingBatch) -> Tensor:
        """(n,) what the loss of each picture counts in the mean."""
        if self.min_snr_gamma is None:
            return batch.weights
        signal = self.schedule.signal[batch.timesteps]
        kind = self.schedule.prediction_type
        return batch.weights * min_snr_weight(signal, self.min_snr_gamma, kind)

    def encodings(self, prompts: Sequence[TokenisedPrompt]) -> Encodings:
        """The prompts as `predict` reads them; one that does not name the concept is encoded once.

        For all layers, that is: it sounds the same in each. Where nothing that trains changes an
        encoding it is kept.
        """
        if not self._text_stands_still:
            return self._encoded(prompts)
        distinct = list(dict.fromkeys(prompts))
        still = [p for p in distinct if not (p.concept_tokens and self.embeddings.requires_grad)]
        self.unchanging |= self._one_by_one([p for p in still if p not in self.unchanging])
        encoded = self.unchanging | self._one_by_one(
            [p for p in distinct if p not in self.unchanging]
        )
        together = reduce(Encodings.followed_by, (encoded[prompt] for prompt in distinct))
        return together.rows([distinct.index(prompt) for prompt in prompts])

    @property
    def _text_stands_still(self) -> bool:
        return self.rates.places.get(Place.TEXT_ENCODER) == 0

    def _one_by_one(self, prompts: Sequence[TokenisedPrompt]) -> dict[TokenisedPrompt, Encodings]:
        if not prompts:
            return {}
        encoded = self._encoded(prompts)
        return {prompt: encoded.rows([number]) for number, prompt in enumerate(prompts)}

    def _encoded(self, prompts: Sequence[TokenisedPrompt]) -> Encodings:
        named = [prompt for prompt in prompts if prompt.concept_tokens]
        plain = [prompt for prompt in prompts if not prompt.concept_tokens]
        if not plain:
            return self.base.encode_prompts(prompts, self.token_embeddings)
        encoded = self.base.encode_prompts(plain)
        if named:
            own = self.base.encode_prompts(named, self.token_embeddings)
            encoded = own.followed_by(encoded)
        order = [*named, *plain]
        return encoded.rows([order.index(prompt) for prompt in prompts])

    def tokenise(self, caption: str) -> TokenisedPrompt:
        """A caption that says <name>, or writes the tokens out, as the text encoder reads it."""
        words = token_names(self.name)
        written = caption.replace(f"<{self.name}>", " ".join(words))
        return self.base.tokenise(written, words)

    def heard(self, prompt: str) -> Encodings:
        """One prompt, as the concept's words are read by now."""
        return self.base.encode_prompts([self.tokenise(prompt)], self.token_embeddings)

    def regularisation(
        self, maps: Tensor, prompts: Sequence[TokenisedPrompt], batch: TrainingBatch
    ) -> Tensor:
        """`attention_loss` over the pictures that have a mask; 0 when none has.

        maps: (n, cells, places).
        """
        assert self.recorder is not None
        size = self.recorder.size(batch.latents)
        masks = functional.adaptive_avg_pool2d(batch.masks, size)[:, 0]
        losses = []
        for row in batch.has_mask.nonzero()[:, 0].tolist():
            of_token: list[list[int]] = [[], []]
            for place, token in prompts[row].concept_tokens:
                of_token[token].append(place)
            if not all(of_token):  # the caption writes only one of the two tokens
                continue
            random_map, class_map = (
                maps[row][:, places].sum(dim=-1).unflatten(0, size) for places in of_token
            )
            losses.append(attention_loss(random_map[None], class_map[None], masks[row][None]))
        return torch.stack(losses).mean() if losses else maps.new_zeros(())

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Hold the embeddings still once they are long enough: Adam skips what has no gradient.

        Those of each text encoder by their own length; the first's is logged.
        """
        self.log("embedding_norm", mean_norm(self.embeddings.detach()))
        for embeddings in self.token_embeddings.values():
            norm = mean_norm(embeddings.detach())
            if self.max_embedding_norm is not None and norm >= self.max_embedding_norm:
                embeddings.grad = None

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule; the recipe's are Adam, and linear to 0 at the end."""
        embeddings = list(self.token_embeddings.values())
        groups = parameter_groups(self.base.trained_maps(), embeddings, self.rates)
        self.optimiser = make_optimiser(self.optimisation, groups, self.base.device)
        schedule = schedule_of(self.optimisation, self.optimiser, self.steps)
        return {
            "optimizer": self.optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def optimizer_step(self, *given: Any, **named: Any) -> None:
        """A step, and the averages after it."""
        super().optimizer_step(*given, **named)
        if self.ema_decay:
            step = self.global_step + 1  # Lightning counts it later
            for name, parameter in self._trained():
                value = parameter.detach()
                average = self.averages.get(name, value).to(value.device)
                self.averages[name] = averaged(average, value, self.ema_decay, step)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.averages = dict(checkpoint.get("averages", {}))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the averages too."""
        super().on_save_checkpoint(checkpoint)
        if self.averages:
            checkpoint["averages"] = self.averages

    def measured_rates(self, optimizer: Optimizer) -> dict[str, float]:
        """The U-Net's; of two, cross-attention's."""
        groups = {group["name"]: group for group in optimizer.param_groups}
        places = ("unet", "cross_attention", "self_attention")
        unet = next((groups[place] for place in places if place in groups), {"lr": 0.0})
        rate = unet["lr"] * unet.get("d", 1.0)  # d: the rate Prodigy found
        return {"learning_rate_unet": rate}

    @contextmanager
    def as_written(self) -> Iterator[None]:
        """Hold the weights that would be written now, for the length of the block.

        They are the trained ones, but for running averages and for an optimiser without a schedule,
        which trains at another point than it has come to.
        """
        optimiser = self.optimiser if self.optimisation.optimizer == "schedulefree" else None
        if optimiser is None and not self.averages:
            yield
            return
        before = {name: parameter.detach().clone() for name, parameter in self._trained()}
        if optimiser is not None:
            optimiser.eval()
        if self.averages:
            self.take_weights(self.averages)
        try:
            yield
        finally:
            if optimiser is not None:
                optimiser.train()
            self.take_weights(before)

    def written_weights(self) -> dict[str, Tensor]:
        """A copy of the weights that would be written now, by name, on the CPU."""
        with self.as_written():
            return {name: value.detach().cpu().clone() for name, value in self._trained()}

    def hold_written(self, best: Mapping[str, Tensor] | None) -> None:
        """Train on no more: hold the weights that are written, or the best ones."""
        self.take_weights(self.written_weights() if best is None else best)

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put `weights` in the place of those that train."""
        for name, parameter in self._trained():
            parameter.data.copy_(weights[name])

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self.named_parameters() if value.requires_grad]

    def _still(self) -> Iterator[nn.Parameter]:
        """What has a learning rate of 0."""
        for trained in self.base.trained_maps():
            if self.rates.places.get(trained.place) == 0:
                yield from (trained.down, trained.up)
        if self.rates.embeddings == 0:
            yield from self.token_embeddings.values()

    def concept(self, class_word: str) -> Concept:
        """What was learned so far."""
        return export_concept(
            self.base, self.name, class_word, self.token_embeddings, self.settings
        )
