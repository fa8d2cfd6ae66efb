"""What methods cost: recorded of each picture, and counted on one."""

import csv
import json

import pytest
import torch
from evaluations import Work

from toolkit.evaluation.cost import Cost, cells_of
from toolkit.evaluation.tensor_memory import TensorMemory


def entry(work: Work, method: str) -> dict[str, float]:
    path = work.folder / "out/compose" / method / "one/0.json"
    found: dict[str, float] = json.loads(path.read_text())
    return found


@pytest.fixture
def gentle(work: Work, monkeypatch: pytest.MonkeyPatch) -> Work:
    """With a method whose steps random weights bear."""
    (work.folder / "configs/method").mkdir(parents=True)
    (work.folder / "configs/method/gentle.yaml").write_text("preset: published\nstep_size: 0.01\n")
    monkeypatch.chdir(work.folder)
    return work


def test_every_picture_says_what_it_cost(gentle: Work) -> None:
    assert gentle.evaluate("methods=prompt_only,gentle") == 0
    plain, ours = entry(gentle, "prompt_only"), entry(gentle, "gentle")
    assert (plain["passes"], plain["guidance_passes"]) == (2 * 2, 0)
    assert ours["passes"] == 2 * 2
    assert ours["guidance_passes"] == 1 + 2, "one to choose the noise, and one a step"
    assert plain["seconds"] > 0 and plain["together"] == 1 and plain["peak_memory"] is None


def test_the_table_has_costs_beside_scores(
    gentle: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ("methods=prompt_only,gentle", f"pictures.theirs={gentle.paint('theirs')}")
    assert gentle.evaluate(*typed, "cost=true") == 0
    head, plain, ours, theirs, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[-4:] == ["passes", "seconds", "kernels", "memory"]
    assert theirs.split()[-4:] == ["-"] * 4
    assert " 4 + 3 " in ours and plain.endswith(" MB")
    with (gentle.folder / "out/evaluation/costs.csv").open() as file:
        costs = {row["method"]: row for row in csv.DictReader(file)}
    plain_cost, our_cost = costs["prompt_only"], costs["gentle"]
    assert int(our_cost["kernels"]) > int(plain_cost["kernels"]) > 500
    assert int(our_cost["peak_memory"]) > int(plain_cost["peak_memory"]) > 0
    assert costs["prompt_only"]["pictures"] == "4"


def test_older_pictures_have_no_cost_and_stay(work: Work) -> None:
    assert work.evaluate("methods=prompt_only") == 0
    path = work.folder / "out/compose/prompt_only/one/0.json"
    older = {key: value for key, value in entry(work, "prompt_only").items() if key != "passes"}
    path.write_text(json.dumps(older))
    assert work.evaluate("methods=prompt_only") == 0
    assert json.loads(path.read_text()) == older
    with (work.folder / "out/evaluation/costs.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["passes"] == "" and float(row["seconds"]) > 0


def test_memory_is_what_lives_together() -> None:
    before = torch.zeros(1000)
    memory = TensorMemory()
    memory.leave_out(before)
    with memory:
        first = before + 1
        first = first * 2
        before[10:].view(-1)
        del first
        torch.ones(500) + 1
    assert memory.peak == 2 * 4000


def test_a_backward_pass_holds_what_it_needs() -> None:
    x = torch.zeros(1000, requires_grad=True)
    memory = TensorMemory()
    memory.leave_out(x)
    with memory:
        y = x
        for _ in range(5):
            y = y.exp()
        y.sum().backward()
    assert memory.peak >= 5 * 4000


def test_what_is_not_known_is_not_shown() -> None:
    assert cells_of(Cost("x", 3)) == ["-"] * 4
    assert cells_of(Cost("x", 3, 100.0, 26.5, 6.31, 12345, 2_500_000)) == [
        "100 + 26.5", "6.31", "12,345", "2 MB",
    ]  # fmt: skip
