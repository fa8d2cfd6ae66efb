"""The counter counts what a device would have to compute, forward and backward, and no more."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from count_kernels import count_all, totals
from torch import Tensor

from toolkit.evaluation.kernels import KernelCounter


def counted(work: Callable[[], object]) -> Counter[str]:
    with KernelCounter() as counter:
        work()
    return counter.counts


def test_views_and_allocations_launch_nothing() -> None:
    x = torch.randn(4, 6)

    def look() -> None:
        x.t().reshape(2, 12).chunk(2, dim=1)
        x[1:, None].expand(3, 5, 6).unflatten(2, (2, 3)).movedim(0, 1).detach()
        x.view(-1).unbind()
        x.unsqueeze_(0).squeeze_(0)
        torch.empty_like(x).new_empty(3)
        torch.empty(2)

    assert counted(look) == {"clone": 1}, "only the reshape of what was transposed, which copies"


def test_what_is_computed_counts_once_for_each_operation() -> None:
    x, weight = torch.randn(2, 4), torch.randn(4, 4)
    assert counted(lambda: (x @ weight + x).relu_()) == {"mm": 1, "add": 1, "relu_": 1}
    assert counted(lambda: x.contiguous()) == {}
    assert counted(lambda: torch.zeros(3).fill_(1)) == {"zeros": 1, "fill_": 1}


def test_python_numbers_are_read_and_made_for_nothing() -> None:
    x = torch.randn(3)
    assert counted(lambda: float(x.sum())) == {"sum": 1}
    assert counted(lambda: x * 2.5) == {"mul": 1}
    assert counted(lambda: x * torch.tensor(2.5)) == {"mul": 1}
    assert counted(lambda: torch.scalar_tensor(2.5).to(torch.float64)) == {}


def test_what_a_scheduler_computes_from_its_sigmas_alone_stays_on_the_host() -> None:
    sigmas, latents = torch.linspace(1, 0.1, 4), torch.randn(2, 3)

    def step() -> Tensor:
        ratio = (sigmas[1] / sigmas[0]).log().exp()
        return ratio * latents

    with KernelCounter() as counter:
        counter.keep_on_host(sigmas)
        step()
    assert counter.counts == {"mul": 1}
    assert counted(step) == {"div": 1, "log": 1, "exp": 1, "mul": 1}


def test_the_backward_pass_counts_as_the_profiler_sees_it() -> None:
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(16, 3)
    )
    x = torch.randn(1, 2, 4, 4)

    def work() -> None:
        moving = x.detach().requires_grad_(True)
        torch.autograd.grad(layers(moving).softmax(dim=1)[0, 0].square(), moving)

    work()
    found = counted(work)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        work()
    seen = {event.key.removeprefix("aten::"): event.count for event in profiler.key_averages()}
    backward = {name for name in found if name.endswith(("_backward", "_backward_data"))}
    assert {"convolution_backward", "silu_backward", "_softmax_backward_data"} <= backward
    assert {name: found[name] for name in backward | {"mm", "convolution"}} == {
        name: seen[name] for name in backward | {"mm", "convolution"}
    }


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    return totals(count_all((2, 5)))


def test_a_picture_is_its_passes_and_little_else(numbers: dict[str, Any]) -> None:
    plain = numbers["plain"]
    assert 4 * plain["pass"] < plain["picture"] < 5 * plain["pass"]
    for found in (*numbers["ours"].values(), *numbers["overlapping"].values()):
        assert found["picture"] > 4 * found["pass"] + 2 * found["guided"]


GOALS = {"pass": 1.25, "guided": 2.3, "picture": 2.5}
"""Times plain sampling's: a pass for passes and guidance, a picture for pictures."""


def test_ours_costs_little_more_than_plain_sampling(numbers: dict[str, Any]) -> None:
    plain = numbers["plain"]
    for found in (*numbers["ours"].values(), *numbers["overlapping"].values()):
        for name, goal in GOALS.items():
            whole = plain["picture" if name == "picture" else "pass"]
            assert found[name] <= goal * whole, name


def test_a_pass_costs_the_same_however_many_concepts_there_are(numbers: dict[str, Any]) -> None:
    few, many = numbers["ours"]["2"], numbers["ours"]["5"]
    assert (few["pass"], few["guided"]) == (many["pass"], many["guided"])
    few, many = numbers["overlapping"]["2"], numbers["overlapping"]["5"]
    assert many["pass"] <= few["pass"] and many["guided"] <= few["guided"]
