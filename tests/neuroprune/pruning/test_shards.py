"""Parameters in shards (FSDP2) on several gloo processes: every bit of a run is that of whole parameters on one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from neuroprune import LATS, SoftThresholdPruner
from neuroprune.pruning.shards import WHOLE, local
from tests.builders import sharded_runs
from tests.builders.run import same

Seen = list[dict[str, list[Any]]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return sharded_runs.on_processes(list(sharded_runs.CASES), 2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return sharded_runs.on_processes(list(sharded_runs.CASES), 4, tmp_path_factory.mktemp("four"))


@pytest.mark.filterwarnings("ignore:SoftThresholdPruner")
@pytest.mark.parametrize("name", sharded_runs.CASES)
def test_two_shards_are_one_whole(name: str, two: Seen) -> None:
    wanted = sharded_runs.CASES[name](None)
    assert all(same(wanted, found[name]) for found in two)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:SoftThresholdPruner")
@pytest.mark.parametrize("name", [*sharded_runs.CASES, "replicas"])
def test_four_shards_are_one_whole_and_so_are_two_of_them_twice(name: str, four: Seen) -> None:
    wanted = sharded_runs.CASES["prune_to under max_sparsity" if name == "replicas" else name](None)
    assert all(same(wanted, found[name]) for found in four)


@pytest.mark.filterwarnings("ignore:SoftThresholdPruner")
def test_the_cases_show_something() -> None:
    for name, case in sharded_runs.CASES.items():
        seen = case(None)
        if name in ("ranks", "empty", "not finite"):
            continue
        sparsity = [step[3] for step in seen]
        assert 0.1 < sparsity[-1] < 0.9, name
    assert "3 of 117 gradient values are NaN or infinite" in sharded_runs.CASES["not finite"](None)[2]
    (messages,) = sharded_runs.CASES["empty"](None)
    assert [message.split(", are zero")[0].rsplit(", ", 2)[0] for message in messages] == [
        "SoftThresholdPruner: all 78 weights of pruned parameter 2"
    ]


def test_where_nothing_is_in_shards_nothing_is_copied() -> None:
    parameter = nn.Parameter(torch.ones(3, 2))
    assert local(parameter) is parameter
    assert WHOLE.whole(parameter, parameter) is parameter
    assert WHOLE.part(parameter) is parameter


def test_other_tensors_that_wrap_tensors_are_refused() -> None:
    kind: Any = TwoTensor
    parameter = nn.Parameter(kind(torch.ones(4, 4), torch.ones(4, 4)))
    with pytest.raises(ValueError, match="is a TwoTensor, a handle of tensors elsewhere"):
        SoftThresholdPruner(torch.optim.SGD([parameter], lr=0.1), LATS(l1=0.1))


COLUMNS = """
import os, torch, torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard
import neuroprune
from neuroprune.pruning.rounding import Grid
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
net = nn.Linear(6, 4)
fully_shard(net, mesh=init_device_mesh("cpu", (1,)), shard_placement_fn=lambda p: Shard(p.dim() - 1))
other = nn.Linear(6, 4)
fully_shard(other, mesh=init_device_mesh("cpu", (1,)))
for model, arguments in ((net, {}), (other, {"rounding": {other.weight: Grid(torch.tensor(0.1), -8, 7)}})):
    try:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        neuroprune.SoftThresholdPruner(optimizer, neuroprune.LATS(l1=0.1), **arguments)
    except ValueError as error:
        print(error)
evaluated = nn.Linear(6, 4)
fully_shard(evaluated, mesh=init_device_mesh("cpu", (1,)))
optimizer = torch.optim.SGD(evaluated.parameters(), 0.1)
with torch.no_grad():
    evaluated(torch.ones(1, 6))
try:
    neuroprune.SoftThresholdPruner(optimizer, neuroprune.ConstantThreshold(0.2))
except ValueError as error:
    print(error)
evaluated.reshard()
neuroprune.SoftThresholdPruner(optimizer, neuroprune.ConstantThreshold(0.2))
print("accepted")
os._exit(0)
"""


def test_columns_grids_and_gathered_weights_are_refused_with_the_reason() -> None:
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COLUMNS], cwd=Path.cwd(), capture_output=True, text=True, check=False
    )
    columns, grids, evaluated, done = found.stdout.splitlines()
    assert "is a DTensor placed as (Shard(dim=1),)" in columns, found.stderr
    assert "in shards (FSDP2's fully_shard), and grids are given for whole parameters" in grids
    assert "call model.reshard() before the pruner is made" in evaluated
    assert done == "accepted"
