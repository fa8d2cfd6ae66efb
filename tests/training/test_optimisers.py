"""Optimisers, schedules, weights of the loss, rates and ranks of parts, running averages."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.optimization import get_scheduler
from safetensors.torch import load_file

from toolkit.backbones import Base, Place, TrainedMap
from toolkit.concept import load_concept
from toolkit.config.schema import TrainConfig
from toolkit.errors import InputError
from toolkit.training import asked, validation
from toolkit.training.loss import min_snr_weight
from toolkit.training.module import ConceptTraining
from toolkit.training.optimisers import (
    LearningRates,
    Optimisation,
    averaged,
    make_optimiser,
    parameter_groups,
    schedule_of,
)
from toolkit.training.run import train

MakeConfig = Callable[..., TrainConfig]
CPU = torch.device("cpu")


def own_package(name: str, parameters: list[torch.nn.Parameter], rate: float) -> Any:
    """The optimiser as its package's own documentation makes it."""
    if name == "adam":
        return torch.optim.Adam(parameters, lr=rate)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=rate)
    if name == "adamw8bit":
        return pytest.importorskip("bitsandbytes").optim.AdamW8bit(parameters, lr=rate)
    if name == "prodigy":
        return pytest.importorskip("prodigyopt").Prodigy(parameters, lr=1.0)
    if name == "lion":
        return pytest.importorskip("lion_pytorch").Lion(parameters, lr=rate)
    if name == "schedulefree":
        made = pytest.importorskip("schedulefree").AdamWScheduleFree(parameters, lr=rate)
        made.train()
        return made
    from transformers.optimization import Adafactor

    return Adafactor(parameters, lr=rate, scale_parameter=False, relative_step=False)


NAMES = ["adam", "adamw", "adamw8bit", "prodigy", "adafactor", "schedulefree", "lion"]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_that_of_the_optimisers_own_package(name: str) -> None:
    start = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    theirs, ours = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    reference = own_package(name, [theirs], 1e-2)
    groups = [{"name": "unet", "params": [ours], "lr": 1e-2}]
    made = make_optimiser(Optimisation(name), groups, CPU)
    for step in range(3):
        gradient = torch.randn(64, 64, generator=torch.Generator().manual_seed(step + 1))
        for parameter, optimiser in ((theirs, reference), (ours, made)):
            parameter.grad = gradient.clone()
            optimiser.step()
    assert torch.equal(ours, theirs) and not torch.equal(ours, start)


@pytest.mark.parametrize(
    "name", ["linear", "cosine", "cosine_with_restarts", "polynomial", "constant"]
)
@pytest.mark.parametrize("warmup", [0, 3])
def test_schedules_are_those_of_diffusers(name: str, warmup: int) -> None:
    def rates(make: Callable[[Any], Any]) -> list[float]:
        optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=1.0)
        schedule, found = make(optimiser), []
        for _ in range(10):
            found.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        return found

    theirs = "constant_with_warmup" if name == "constant" else name
    wanted = rates(
        lambda o: get_scheduler(theirs, o, num_warmup_steps=warmup, num_training_steps=10)
    )
    found = rates(lambda o: schedule_of(Optimisation("adam", name, warmup), o, 10))
    assert found == pytest.approx(wanted)
    assert len(set(found)) > 1 or (name == "constant" and not warmup)


def test_min_snr_is_the_papers_weight_of_the_clean_latents_error() -> None:
    """The paper weights |x0 - x0'|^2 by min(SNR, gamma), where SNR is alpha^2 / sigma^2."""
    draw = torch.Generator().manual_seed(0)
    latents, noise, guess = (torch.randn(6, 4, 8, 8, generator=draw, dtype=torch.float64)
                             for _ in range(3))  # fmt: skip
    signal = torch.tensor([0.999, 0.9, 0.6, 0.3, 0.05, 0.001], dtype=torch.float64)
    alpha, sigma = (root.sqrt().view(-1, 1, 1, 1) for root in (signal, 1 - signal))
    noisy = alpha * latents + sigma * noise
    snr = signal / (1 - signal)
    for gamma in (1.0, 5.0):
        wanted = torch.minimum(snr, torch.tensor(gamma)) * (
            (guess - latents).square().mean(dim=(1, 2, 3))
        )
        noise_guess = (noisy - alpha * guess) / sigma
        errors = {
            "sample": guess - latents,
            "epsilon": noise_guess - noise,
            "v_prediction": (alpha * noise_guess - sigma * guess)
            - (alpha * noise - sigma * latents),
        }
        for kind, error in errors.items():
            weight = min_snr_weight(signal, gamma, kind)
            torch.testing.assert_close(weight * error.square().mean(dim=(1, 2, 3)), wanted)
    assert min_snr_weight(torch.zeros(1), 5.0, "epsilon") == 1, "no signal at all, as in v2.1"
    assert min_snr_weight(torch.zeros(1), 5.0, "v_prediction") == 0


def test_parts_and_halves_have_rates_of_their_own() -> None:
    maps = [
        TrainedMap(place, *(torch.nn.Parameter(torch.ones(1)) for _ in range(2))) for place in Place
    ]
    embeddings = torch.nn.Parameter(torch.ones(1))
    rates = dict(zip(Place, (1.0, 2.0, 3.0), strict=True))

    def found(rates: LearningRates) -> dict[int, float]:
        groups = parameter_groups(maps, [embeddings], rates)
        return {id(one): group["lr"] for group in groups for one in group["params"]}

    own = found(LearningRates(rates, 5.0, lora_plus=16.0))
    for trained in maps:
        assert own[id(trained.down)] == rates[trained.place]
        assert own[id(trained.up)] == 16 * rates[trained.place]
    assert own[id(embeddings)] == 5.0
    still = found(LearningRates({**rates, Place.CROSS_ATTENTION: 0.0}, 0.0))
    assert len(still) == 4
    as_ever = parameter_groups(maps, [embeddings], LearningRates(dict.fromkeys(Place, 2.0), 1.0))
    assert [group["name"] for group in as_ever] == ["text_encoder", "unet", "embeddings"]


def test_ranks_and_rates_of_parts_reach_the_concept(make_config: MakeConfig) -> None:
    concept = load_concept(
        train(
            make_config(
                steps=2, rank=2, rank_text_encoder=1, rank_cross_attention=6,
                learning_rate_text_encoder=0.0, learning_rate_self_attention=0.0,
            )
        )
    )  # fmt: skip
    ranks = {(".attn2." in path, len(pair.down)) for path, pair in concept.unet.items()}
    assert ranks == {(True, 6), (False, 2)}
    assert {len(pair.down) for pair in concept.text_encoder.values()} == {1}
    moved = {".attn2." in path for path, pair in concept.unet.items() if pair.up.any()}
    assert moved == {True}
    assert not any(pair.up.any() for pair in concept.text_encoder.values())


@pytest.mark.parametrize("name", ["adafactor", "schedulefree", "prodigy"])
def test_a_stopped_training_with_all_of_it_on_trains_and_goes_on_to_the_same_result(
    name: str, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in asked._PACKAGES:
        pytest.importorskip(asked._PACKAGES[name])
    monkeypatch.setattr(validation, "FEWEST_DRAWS", 2)
    options: dict[str, Any] = dict(
        optimizer=name, lora_plus_ratio=1.0 if name == "prodigy" else 4.0, warmup_steps=2,
        ema_decay=0.9, min_snr_gamma=5.0, max_grad_norm=1.0, buckets=True, prior="2", steps=3,
        caption_dropout=0.3, validation=0.2, validate_every_steps=1, keep="best",
    )  # fmt: skip
    whole = load_file(train(make_config(output_dir=tmp_path / "whole", **options)))
    step, failed = ConceptTraining.training_step, []

    def failing(self: ConceptTraining, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 2 and not failed:
            failed.append(True)
            raise OSError("no space left")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ConceptTraining, "training_step", failing)
    with pytest.raises(OSError, match="no space"):
        train(make_config(**options))
    resumed = load_file(train(make_config(**options)))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    with (tmp_path / "outputs/runs/train/tiny/rex/metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_what_is_written_is_the_running_average(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    optimizer_step = ConceptTraining.optimizer_step

    def watched(self: ConceptTraining, *given: Any, **named: Any) -> None:
        optimizer_step(self, *given, **named)
        seen.append(self.embeddings.detach().clone())

    monkeypatch.setattr(ConceptTraining, "optimizer_step", watched)
    written = load_concept(train(make_config(ema_decay=0.6, learning_rate_embeddings=0.1)))
    average = seen[0]
    for number, value in enumerate(seen[1:], 2):
        average = averaged(average, value, 0.6, number)
    torch.testing.assert_close(written.embeddings.float(), average, atol=2e-3, rtol=0)
    assert (average - seen[-1]).abs().max() > 0.01


def test_measuring_leaves_a_training_without_schedule_as_it_was(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("schedulefree")
    monkeypatch.setattr(validation, "FEWEST_DRAWS", 2)
    found = [
        load_file(
            train(
                make_config(
                    output_dir=tmp_path / str(every),
                    optimizer="schedulefree",
                    validation=0.2,
                    validate_every_steps=every,
                )
            )  # fmt: skip
        )
        for every in (1, 4)
    ]
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_text_that_nothing_changes_is_encoded_once(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    encode = Base.encode_prompts

    def counting(self: Base, prompts: Any, embeddings: Any = None) -> torch.Tensor:
        calls.append(len(prompts))
        return encode(self, prompts, embeddings)

    monkeypatch.setattr(Base, "encode_prompts", counting)
    train(make_config(learning_rate_text_encoder=0.0, learning_rate_embeddings=0.0))
    assert sum(calls) == 3, "one for each caption"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "prodigy", "lora_plus_ratio": 4.0}, "one rate for all"),
        ({"optimizer": "schedulefree", "schedule": "cosine"}, "takes no training.schedule"),
        ({"min_snr_gamma": 0.0}, "must be above 0"),
        ({"weight_decay": 0.1}, "adamw"),
        ({"learning_rate_unet": 0.0, "learning_rate_text_encoder": 0.0,
          "learning_rate_embeddings": 0.0}, "nothing would be learned"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    options: dict[str, Any], said: str, make_config: MakeConfig
) -> None:
    with pytest.raises(InputError, match=said):
        make_config(**options)


def test_an_optimiser_that_is_not_there_or_cannot_run_is_told_in_a_line(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package prodigyopt: pip install"):
        train(make_config(optimizer="prodigy"))
    bitsandbytes = pytest.importorskip("bitsandbytes")

    def broken(self: object, closure: object = None) -> None:
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(bitsandbytes.optim.AdamW8bit, "step", broken)
    with pytest.raises(InputError, match="cannot run here.*no kernel.*optimizer=adamw"):
        make_optimiser(Optimisation("adamw8bit"), [], CPU)


def test_a_largest_norm_is_given_in_one_place(make_config: MakeConfig) -> None:
    with pytest.raises(InputError, match="give one of them"):
        train(make_config(trainer={"gradient_clip_val": 1.0}, max_grad_norm=1.0))
