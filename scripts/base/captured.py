"""Training steps as CUDA graphs: at these sizes a GPU waits for Python, not Python for the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

if TYPE_CHECKING:
    from .pretraining import Training


@dataclass(frozen=True)
class Pass:
    """One captured forward and backward pass: what it reads, and what it leaves."""

    graph: torch.cuda.CUDAGraph
    latents: Tensor
    embeds: Tensor
    embeds_grad: Tensor | None
    loss: Tensor


class CapturedTraining:
    """`Training.step`, captured once for each shape of batch, and the update once for all.

    The text tower's own passes stay outside: they are short, and transformers' code is not ours
    to keep free of what cannot be captured.
    """

    def __init__(self, training: Training, schedule: DDPMScheduler, leaning: float) -> None:
        """Gradients and rates get their places for good, where the graphs will look for them."""
        self.training, self.schedule, self.leaning = training, schedule, leaning
        self.passes: dict[torch.Size, Pass] = {}
        self.pool = torch.cuda.graph_pool_handle()
        self.updating: torch.cuda.CUDAGraph | None = None
        self.updates = 0
        for weight in training.trained:
            weight.grad = torch.zeros_like(weight)
        self.grads = [weight.grad for weight in training.trained if weight.grad is not None]
        for optimizer in training.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=self.grads[0].device)
                if "capturable" in group:
                    group["capturable"] = True

    def step(self, latents: Tensor, ids: Tensor) -> Tensor:
        """One update of all that is trained; returns the loss."""
        embeds = self.training.embeds(ids)
        if latents.shape not in self.passes:
            self.passes[latents.shape] = self._capture(latents, embeds)
        captured = self.passes[latents.shape]
        captured.latents.copy_(latents)
        with torch.no_grad():
            captured.embeds.copy_(embeds)
        captured.graph.replay()
        if captured.embeds_grad is not None:
            embeds.backward(captured.embeds_grad)
        self._update()
        return captured.loss.clone()

    def _capture(self, latents: Tensor, embeds: Tensor) -> Pass:
        latents = latents.clone()
        static = embeds.detach().clone().requires_grad_(embeds.requires_grad)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                self.training.loss(latents, static, self.schedule, self.leaning).backward()
        torch.cuda.current_stream().wait_stream(aside)
        static.grad = None
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            loss = self.training.loss(latents, static, self.schedule, self.leaning)
            loss.backward()
        torch._foreach_zero_(self.grads)
        return Pass(graph, latents, static, static.grad, loss.detach())

    def _update(self) -> None:
        self.updates += 1
        if self.updates <= 2:  # optimizers make their state at the first step
            self._move()
            return
        if self.updating is None:
            torch.cuda.synchronize()
            self.updating = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.updating):
                self._move()
        self.updating.replay()

    def _move(self) -> None:
        self.training.update()
        torch._foreach_zero_(self.grads)
