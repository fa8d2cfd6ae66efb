"""Training an ED-LoRA, as a LightningModule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional

from toolkit.backbones import Base, CrossAttentionMaps, Encodings, Part, TokenisedPrompt
from toolkit.concept import Concept
from toolkit.errors import RunError
from toolkit.training.data import TrainingBatch
from toolkit.training.ed_lora import export_concept, token_names
from toolkit.training.loss import attention_loss, masked_mse, mean_norm


@dataclass(frozen=True)
class LearningRates:
    """Of Adam's groups, before their linear decay to 0: each part's LoRA, and the embeddings."""

    parts: Mapping[Part, float]
    embeddings: float


class ConceptTraining(LightningModule):
    """One concept's training: the base with a LoRA injected, and the concept's embeddings.

    To be used under the base's `lora_injected` and `heard_by_layer`, fit and export alike.
    settings: what the result depends on, for the record. embeddings: for each text encoder
        (2, layers, width) to start from. max_embedding_norm: see `mean_norm`; None: no limit.
    recorder: collects the maps for the attention regulariser; None when its weight is 0.
    """

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
    ) -> None:
        super().__init__()
        self.base = base
        for network, module in base.networks.items():
            self.add_module(network, module)
        self.name = name
        self.settings = dict(settings)
        self.embeddings = nn.Parameter(embeddings[Part.TEXT_ENCODER])
        second = embeddings.get(Part.TEXT_ENCODER_2)
        self.embeddings_2 = None if second is None else nn.Parameter(second)
        self.rates = rates
        self.steps = steps
        self.mask_loss = mask_loss
        self.max_embedding_norm = max_embedding_norm
        self.attention_weight = attention_weight
        self.recorder = recorder
        self.schedule = base.noise_schedule()
        self.strict_loading = False  # a checkpoint holds only what trains

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
        loss = (self.errors(batch, prompts) * batch.weights).mean()
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

    def encodings(self, prompts: Sequence[TokenisedPrompt]) -> Encodings:
        """The prompts as `predict` reads them; one that does not name the concept is encoded once.

        For all layers, that is: it sounds the same in each.
        """
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
        """Adam, whose rates fall linearly to 0 at the last step."""
        groups = [
            {"params": _trained(network), "lr": self.rates.parts[part]}
            for part, network in self.base.parts.items()
        ]
        embeddings = list(self.token_embeddings.values())
        groups.append({"params": embeddings, "lr": self.rates.embeddings})
        optimizer = torch.optim.Adam(groups)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen base out of the file, and say what it was trained with."""
        checkpoint["settings"] = self.settings
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {
            name: value for name, value in checkpoint["state_dict"].items() if name in trained
        }

    def trained_weights(self) -> dict[str, Tensor]:
        """A copy of all that trains, by name, on the CPU."""
        return {
            name: parameter.detach().cpu().clone()
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put `trained_weights` of another step in the place of these."""
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                parameter.data.copy_(weights[name])

    def concept(self, class_word: str) -> Concept:
        """What was learned so far."""
        return export_concept(
            self.base, self.name, class_word, self.token_embeddings, self.settings
        )


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
