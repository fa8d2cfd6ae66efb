"""Training an ED-LoRA, as a LightningModule."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional

from toolkit.backbones import Base
from toolkit.backbones.unet.text import TokenisedPrompt, encode_layerwise, tokenise
from toolkit.concept import Concept
from toolkit.errors import RunError
from toolkit.training.attention import CrossAttentionMaps
from toolkit.training.data import TrainingBatch
from toolkit.training.ed_lora import export_concept, token_names
from toolkit.training.loss import (
    attention_loss,
    masked_mse,
    mean_norm,
    noisy_latents,
    target,
)


@dataclass(frozen=True)
class LearningRates:
    """Of Adam's three groups, before their linear decay to 0."""

    text_encoder: float
    unet: float
    embeddings: float


class ConceptTraining(LightningModule):
    """One concept's training: the base with a LoRA injected, and the concept's embeddings.

    To be used under `lora_injected` and `layerwise_cross_attention`, fit and export alike.
    settings: what the result depends on, for the record. embeddings: (2, layers, dim) to start
        from. max_embedding_norm: see `mean_norm`; None: no limit.
    recorder: collects the maps for the attention regulariser; None when its weight is 0.
    """

    signal: Tensor

    def __init__(
        self,
        base: Base,
        name: str,
        settings: Mapping[str, str],
        embeddings: Tensor,
        rates: LearningRates,
        steps: int,
        mask_loss: bool = True,
        max_embedding_norm: float | None = None,
        attention_weight: float = 0.0,
        recorder: CrossAttentionMaps | None = None,
    ) -> None:
        super().__init__()
        self.base = base
        self.unet, self.text_encoder, self.vae = base.unet, base.text_encoder, base.vae
        self.name = name
        self.settings = dict(settings)
        self.embeddings = nn.Parameter(embeddings)
        self.rates = rates
        self.steps = steps
        self.mask_loss = mask_loss
        self.max_embedding_norm = max_embedding_norm
        self.attention_weight = attention_weight
        self.recorder = recorder
        schedule = DDPMScheduler.from_config(base.scheduler_config)
        self.prediction_type = str(schedule.config.prediction_type)
        self.register_buffer("signal", schedule.alphas_cumprod, persistent=False)
        self.strict_loading = False  # a checkpoint holds only what trains

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """The loss of one batch. Raises RunError when it is not finite."""
        prompts = [self.tokenise(caption) for caption in batch.captions]
        signal = self.signal[batch.timesteps]
        noisy = noisy_latents(batch.latents, batch.noise, signal)
        wanted = target(batch.latents, batch.noise, signal, self.prediction_type)
        if self.recorder is not None:
            self.recorder.forget()
        prediction = self.unet(noisy.to(self.base.dtype), batch.timesteps, self.encode(prompts))
        inside = batch.masks if self.mask_loss else torch.ones_like(batch.masks)
        loss = masked_mse(prediction.sample, wanted, inside)
        if self.recorder is not None:
            regularisation = self.regularisation(self.recorder.mean(), prompts, batch)
            loss = loss + self.attention_weight * regularisation
        if not loss.isfinite():
            raise RunError(
                f"the loss is not a number at step {self.global_step} of {self.steps}: lower the "
                "learning rates (training.learning_rate_unet and its like), or take "
                "trainer.precision=32-true"
            )
        self.log("loss", loss)
        return loss

    def tokenise(self, caption: str) -> TokenisedPrompt:
        """A caption that says <name>, or writes the tokens out, as the text encoder reads it."""
        words = token_names(self.name)
        written = caption.replace(f"<{self.name}>", " ".join(words))
        return tokenise(written, self.base.tokenizer, words)

    def encode(self, prompts: Sequence[TokenisedPrompt]) -> Tensor:
        """(prompts, layers, places, dim); each distinct prompt is encoded once."""
        distinct = list(dict.fromkeys(prompts))
        encodings = encode_layerwise(self.text_encoder, distinct, self.embeddings)
        rows = [distinct.index(prompt) for prompt in prompts]
        return encodings[rows].to(self.base.dtype)

    def regularisation(
        self, maps: Tensor, prompts: Sequence[TokenisedPrompt], batch: TrainingBatch
    ) -> Tensor:
        """`attention_loss` over the pictures that have a mask; 0 when none has.

        maps: (n, cells, places).
        """
        assert self.recorder is not None
        height, width = batch.latents.shape[2:]
        size = (
            math.ceil(height / self.recorder.downscale),
            math.ceil(width / self.recorder.downscale),
        )
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
        """Hold the embeddings still once they are long enough: Adam skips what has no gradient."""
        norm = mean_norm(self.embeddings.detach())
        self.log("embedding_norm", norm)
        if self.max_embedding_norm is not None and norm >= self.max_embedding_norm:
            self.embeddings.grad = None

    def configure_optimizers(self) -> Any:
        """Adam with three groups, whose rates fall linearly to 0 at the last step."""
        optimizer = torch.optim.Adam(
            [
                {"params": _trained(self.text_encoder), "lr": self.rates.text_encoder},
                {"params": _trained(self.unet), "lr": self.rates.unet},
                {"params": [self.embeddings], "lr": self.rates.embeddings},
            ]
        )
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen base out of the file, and say what it was trained with."""
        checkpoint["settings"] = self.settings
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {
            name: value for name, value in checkpoint["state_dict"].items() if name in trained
        }

    def concept(self, class_word: str) -> Concept:
        """What was learned so far."""
        return export_concept(self.base, self.name, class_word, self.embeddings, self.settings)


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
