"""Other packages' training loops, with the packages themselves: bit for bit the loop by hand, or refused."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from examples.benchmarks import trainers
from examples.benchmarks.trainer_cases import loops, sharded
from examples.benchmarks.trainer_cases.reference import Outcome, Verdict, by_hand, compare
from neuroprune import LATS, SoftThresholdPruner
from neuroprune.integrations.averaging import keep_zeros
from tests.builders.run import same


@pytest.mark.parametrize("case", trainers.LOOPS, ids=lambda case: f"{case.package}: {case.name}")
def test_a_loop_is_the_one_by_hand_or_is_refused(case: trainers.Case) -> None:
    pytest.importorskip(case.package)
    found = case.run()
    assert found.status == case.expected, found.message


def check(count: int) -> None:
    pytest.importorskip("accelerate")
    found = sharded.on_processes(list(trainers.SHARDED), count)
    expected = {name: wanted for name, (_, _, wanted) in trainers.SHARDED.items()}
    assert {name: verdict.status for name, verdict in found.items()} == expected, found
    for name, reason in REASONS.items():
        assert reason in found[name].message


#: What each refusal must say.
REASONS = {
    "zero, bucket views": "views of its buckets",
    "fsdp1": "FSDP1",
    "fsdp1, use_orig_params": "FSDP1",
    "fsdp2, forgotten": "without the pruner's state",
    "fsdp2, columns": "Shard(dim=1)",
    "fsdp2, some whole": "is whole, and the first pruned parameter",
    "fsdp2, budget": "its measure runs the model inside the optimizer's step",
    "fsdp2, costs": "costs are known by the parameter that the model computes with",
    "fsdp2 after the pruner": "DTensor",
    "tensor parallel": "DTensor",
    "flattened": "all of them have one dimension",
}


def test_two_processes_end_alike_or_are_refused() -> None:
    check(2)


@pytest.mark.slow
def test_four_processes_end_alike_or_are_refused() -> None:
    check(4)


def test_the_comparison_sees_a_bit() -> None:
    wanted = by_hand()
    for field in ("weights", "latents", "threshold"):
        other = by_hand()
        value: Any = getattr(other, field)
        if isinstance(value, float):
            other = Outcome(other.weights, other.latents, value * (1 + 1e-15), other.state)
        else:
            tensor = next(iter(value.values()))
            tensor.view(-1)[:1].view(torch.int32).add_(1)
        assert compare(other, wanted) == Verdict("wrong", f"{field} differ")
    assert compare(by_hand(steps=1), by_hand(steps=1)).status == "wrong"  # too few zeros to show anything


def test_a_checkpoint_of_another_run_or_without_the_pruner_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    loops.transformers_run(tmp_path, 12)
    (path,) = tmp_path.glob("checkpoint-12/pruner.pt")
    state = torch.load(path, weights_only=True)
    state["latents"][0] += 1.0
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"pruner\.pt belongs to other weights"):
        loops.transformers_run(tmp_path, 24, resume=True)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"checkpoint-12/pruner\.pt does not exist.*resume_from="):
        loops.transformers_run(tmp_path, 24, resume=True)


@pytest.mark.parametrize("package", ["lightning", "transformers"])
def test_there_is_no_pruner_before_the_training(package: str) -> None:
    pytest.importorskip(package)
    callback = importlib.import_module(f"neuroprune.integrations.{package}").PruningCallback
    with pytest.raises(RuntimeError, match="there is none before"):
        _ = callback(lambda *_: None).pruner


def test_zeros_are_kept_by_name_and_nothing_else_changes() -> None:
    model, average = (nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)) for _ in range(2))
    pruner = SoftThresholdPruner(torch.optim.SGD(model[0].parameters(), lr=0.1), LATS(l1=0.1))
    with torch.no_grad():
        model.get_parameter("0.weight")[0].zero_()
        model.get_parameter("1.weight")[0].zero_()
        average.get_parameter("0.weight")[0, 0] = torch.nan
    before = {name: value.clone() for name, value in average.state_dict().items()}
    keep_zeros(average, model, pruner.parameters)
    before["0.weight"][0] = 0.0
    assert same(dict(average.state_dict()), before)
    with pytest.raises(ValueError, match="none of the model"):
        keep_zeros(average, nn.Linear(4, 3), pruner.parameters)
    with pytest.raises(ValueError, match=r"0\.weight, has no counterpart.*its \.module"):
        keep_zeros(nn.Sequential(average), model, pruner.parameters)
    assert same(dict(average.state_dict()), before)


def test_a_wrapper_around_the_optimizer_is_seen_at_the_first_step() -> None:
    package = pytest.importorskip("schedulefree")
    layer = nn.Linear(4, 4)
    inner = torch.optim.SGD(layer.parameters(), lr=0.1)
    SoftThresholdPruner(inner, LATS(l1=0.1))
    outer = package.ScheduleFreeWrapper(inner, momentum=0.9)
    layer(torch.ones(1, 4)).sum().backward()
    outer.train()
    with pytest.raises(TypeError, match="ScheduleFreeWrapper exchanges the weights"):
        outer.step()
