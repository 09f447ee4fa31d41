"""Short runs with given gradients, of whole parameters here or of FSDP2's shards on several processes.

This file with FOLDER NAME … is what torchrun starts on each process. What a run saw after every
step is the same list of whole tensors and numbers on every process, and is to be the same as without shards.
"""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from neuroprune import (
    LATS,
    PGH,
    STR,
    Garrote,
    HardThreshold,
    Preconditioner,
    SoftThresholdPruner,
    STDSLinear,
    prune_at_initialization,
    prune_to,
)
from neuroprune.pruning.fan_in import Cap, Caps
from neuroprune.pruning.shards import Shards
from neuroprune.schedules import SparsityRamp

ROOT = Path(__file__).parents[2]
STEPS = 12


class Run:
    """A model of odd sizes, its optimizer and pruner; with a mesh, its parameters are in shards."""

    def __init__(self, make: Callable[[list[dict[str, Any]]], Optimizer], mesh: Any, **options: Any) -> None:
        torch.manual_seed(0)
        self.loud: tuple[int, float] | None = None
        # Rows for 2 or 4 processes: 13 = 4 + 4 + 4 + 1, 6 = 2 + 2 + 2 + 0, and 3, of which a fourth has none.
        self.net = nn.Sequential(nn.Linear(9, 13), nn.Linear(13, 6), nn.Conv2d(5, 3, 3))
        if mesh is not None:
            fully_shard(self.net, mesh=mesh)
        first, second, third = (list(layer.parameters()) for layer in self.net)
        self.optimizer = make([{"params": first + third}, {"params": second, **options}])
        self.seen: list[Any] = []

    def give(self, step: int) -> None:
        """Gradients of this step, which weights pull back."""
        generator = torch.Generator().manual_seed(step)
        for parameter in self.net.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            if self.loud is not None and parameter.dim() > 1:
                noise[self.loud[0]] *= self.loud[1]
            if not parameter.requires_grad:
                parameter.grad = None
            elif isinstance(parameter, DTensor):
                noise = distribute_tensor(noise, parameter.device_mesh, parameter.placements)
                parameter.grad = noise + 0.25 * parameter.detach()
            else:
                parameter.grad = noise + 0.25 * parameter.detach()

    def train(self, pruner: SoftThresholdPruner, first: int = 0, last: int = STEPS) -> None:
        """Step, and see what there is."""
        for step in range(first, last):
            self.give(step)
            self.optimizer.step()
            self.look(pruner)

    def look(self, pruner: SoftThresholdPruner) -> None:
        """Note weights, thresholds, μ, sparsity, and all that the pruner saves."""
        weights = [whole(p.detach()) for p in self.net.parameters()]
        state = copy.deepcopy(pruner.state_dict())
        self.seen.append([weights, pruner.thresholds, pruner.l1, pruner.sparsity(), state])


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; a copy."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).clone()


def sgd(groups: list[dict[str, Any]]) -> Optimizer:
    """With momentum and decay."""
    return SGD(groups, lr=0.05, momentum=0.9, weight_decay=1e-3)


def adamw(groups: list[dict[str, Any]]) -> Optimizer:
    """As it is."""
    return AdamW(groups, lr=0.02)


def rmsprop(groups: list[dict[str, Any]]) -> Optimizer:
    """Centred: its metric is of two tensors."""
    return RMSprop(groups, lr=0.01, centered=True)


Case = Callable[[Any], list[Any]]


def plain(make: Any, pruned: Callable[[Optimizer], SoftThresholdPruner], **options: Any) -> Case:
    """A run from the first step to the last."""

    def case(mesh: Any) -> list[Any]:
        run = Run(make, mesh, **options)
        pruner = pruned(run.optimizer)
        run.train(pruner)
        return run.seen

    return case


def scheduled(make: Any, schedule: Any, *, group: Mapping[str, Any] | None = None, **arguments: Any) -> Case:
    """The same, with a schedule."""
    return plain(make, lambda optimizer: SoftThresholdPruner(optimizer, schedule, **arguments), **(group or {}))


def written(mesh: Any) -> list[Any]:
    """Weights are written from outside, by name and in place, and by `load_state_dict`."""
    run = Run(sgd, mesh)
    pruner = SoftThresholdPruner(run.optimizer, LATS(l1=0.3))
    run.train(pruner, 0, 4)
    with torch.no_grad():
        run.net.get_parameter("0.weight").mul_(0.5)
    run.train(pruner, 4, 8)
    kept = {name: value.detach().clone() for name, value in run.net.state_dict().items()}
    run.train(pruner, 8, 10)
    run.net.load_state_dict(kept)
    run.train(pruner, 10, STEPS)
    return run.seen


def resumed(mesh: Any) -> list[Any]:
    """Half of a run, and the other half by new objects, from what was saved."""
    old = Run(adamw, mesh)
    pruner = prune_to(0.8, old.optimizer, steps=STEPS, caps=Caps(Cap(5), Cap(30)))
    old.train(pruner, 0, 5)
    saved = copy.deepcopy((old.net.state_dict(), old.optimizer.state_dict(), pruner.state_dict()))
    new = Run(adamw, mesh)
    other = prune_to(0.8, new.optimizer, steps=STEPS, caps=Caps(Cap(5), Cap(30)))
    new.net.load_state_dict(saved[0])
    new.optimizer.load_state_dict(saved[1])
    other.load_state_dict(saved[2])
    new.train(other, 5, STEPS)
    return old.seen + new.seen


def frozen(mesh: Any) -> list[Any]:
    """Zeros are kept from half-way on."""
    run = Run(sgd, mesh)
    pruner = SoftThresholdPruner(run.optimizer, LATS(l1=0.3))
    run.train(pruner, 0, 6)
    pruner.freeze()
    run.train(pruner, 6)
    return run.seen


def unfrozen(mesh: Any) -> list[Any]:
    """A layer pauses, its weights are written to, and it comes back."""
    run = Run(sgd, mesh)
    pruner = SoftThresholdPruner(run.optimizer, LATS(l1=0.3))
    run.train(pruner, 0, 4)
    run.net[1].requires_grad_(False)
    run.train(pruner, 4, 6)
    with torch.no_grad():
        run.net.get_parameter("1.weight").mul_(0.5)
    run.net[1].requires_grad_(True)
    run.train(pruner, 6)
    return run.seen


def blown_up(mesh: Any) -> list[Any]:
    """A row with gradients far above those of others, which are limited where it is pruned; and one that is empty."""
    run = Run(sgd, mesh)
    pruner = SoftThresholdPruner(run.optimizer, SparsityRamp(0.8, STEPS), proximal=HardThreshold(), clip_pruned=1.0)
    with torch.no_grad():
        run.net.get_parameter("0.weight").mul_(0.01)
    run.train(pruner, 0, 4)
    run.loud = (1, 1e3)
    run.train(pruner, 4)
    return run.seen


def one_over(mesh: Any) -> list[Any]:
    """Rows of the first shard alone have more than a limit allows."""
    run = Run(sgd, mesh)
    parameter = run.net.get_parameter("0.weight")
    with torch.no_grad():
        parameter.mul_(1.0 + 19.0 * first_rows(parameter))
    pruner = SoftThresholdPruner(run.optimizer, LATS(l1=2.0), fan_in=Cap(7, steps=STEPS))
    run.train(pruner)
    return run.seen


def double(mesh: Any) -> list[Any]:
    """Ranks of numbers of 64 bits."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return CASES["prune_to under max_sparsity"](mesh)
    finally:
        torch.set_default_dtype(default)


def ranks(mesh: Any) -> list[Any]:
    """The k-th smallest of values that are hard to rank, for every k."""
    shards = Shards(mesh)
    seen = []
    for dtype in (torch.float32, torch.float64):
        tiny = torch.finfo(dtype).tiny
        hard = [
            -math.inf,
            -1.5,
            -tiny,
            -tiny / 4,
            -0.0,
            0.0,
            tiny / 4,
            1.0,
            1.0,
            1.0 + 2**-20,
            7e30,
            math.inf,
            -math.nan,
        ]
        values = torch.tensor([*hard, *hard[::-1]], dtype=dtype)[:, None]
        here = shards.part(values)[:, 0]
        seen.append(torch.stack([shards.smallest(here, k) for k in range(1, len(values) + 1)]).nan_to_num(1e38))
    return seen


def empty(mesh: Any) -> list[Any]:
    """A warning where all rows of a layer are zero, and none where those of a shard are."""
    run = Run(sgd, mesh)
    pruner = SoftThresholdPruner(run.optimizer, LATS(l1=0.0))
    with torch.no_grad():
        run.net.get_parameter("0.weight").mul_(first_rows(run.net.get_parameter("0.weight")))
        run.net.get_parameter("1.weight").zero_()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.give(0)
        for parameter in run.net.parameters():
            parameter.grad = None
        run.optimizer.step()
        pruner.finalize()
    return [[str(warning.message) for warning in caught]]


def first_rows(parameter: Tensor) -> Tensor:
    """1 in the first four rows of a parameter, else 0, in shards as it is."""
    mask = (torch.arange(len(parameter)) < 4).float()[:, None].expand(parameter.shape).contiguous()
    if not isinstance(parameter, DTensor):
        return mask
    return distribute_tensor(mask, parameter.device_mesh, parameter.placements)


def at_initialization(mesh: Any) -> list[Any]:
    """A mask is searched, all else goes back to the start, and the rest trains."""
    run = Run(adamw, mesh)
    pruner = prune_at_initialization(
        run.net, run.optimizer, LATS(l1=0.5), lambda search: run.train(search, last=STEPS // 2)
    )
    run.train(pruner, STEPS // 2)
    return run.seen


def not_finite(mesh: Any) -> list[Any]:
    """A gradient that is not finite in one row, which is in one shard alone: nobody steps."""
    run = Run(sgd, mesh)
    pruner = SoftThresholdPruner(run.optimizer, LATS(l1=0.3))
    run.train(pruner, 0, 2)
    run.give(2)
    parameter = run.net.get_parameter("0.weight")
    bad = torch.zeros(parameter.shape)
    bad[0, :3] = torch.nan
    if isinstance(parameter, DTensor):
        bad = distribute_tensor(bad, parameter.device_mesh, parameter.placements)
    assert parameter.grad is not None
    parameter.grad = parameter.grad + bad
    try:
        run.optimizer.step()
    except FloatingPointError as error:
        run.seen.append(str(error))
    run.look(pruner)
    return run.seen


CASES: Mapping[str, Case] = {
    "LATS, SGD": scheduled(sgd, LATS(l1=0.3)),
    "LATS, AdamW": scheduled(adamw, LATS(l1=0.3)),
    "PGH, AdamW": scheduled(adamw, PGH(l1=0.6, steps=STEPS)),
    "LATS to a sparsity": scheduled(sgd, LATS(target_sparsity=0.7, lr_sum=0.05 * STEPS, steps=STEPS)),
    "STDS to a sparsity under max_sparsity": scheduled(
        adamw, STDSLinear(target_sparsity=0.6, steps=STEPS), group={"max_sparsity": 0.5}
    ),
    "garrote": scheduled(sgd, LATS(l1=0.3), proximal=Garrote()),
    "max_sparsity": scheduled(sgd, LATS(l1=1.0), group={"max_sparsity": 0.4}),
    "max_sparsity in the metric": scheduled(
        adamw, LATS(l1=0.5), group={"max_sparsity": 0.4}, precondition=Preconditioner()
    ),
    "damped metric of RMSprop": scheduled(rmsprop, LATS(l1=0.2), precondition=Preconditioner(damping=0.5)),
    "STR": scheduled(sgd, STR(s_init=-3.0)),
    "prune_to, SGD": plain(sgd, lambda optimizer: prune_to(0.8, optimizer, steps=STEPS)),
    "prune_to, AdamW": plain(adamw, lambda optimizer: prune_to(0.8, optimizer, steps=STEPS)),
    "prune_to under max_sparsity": plain(
        adamw, lambda optimizer: prune_to(0.7, optimizer, steps=STEPS), max_sparsity=0.5
    ),
    "fan-in": scheduled(sgd, SparsityRamp(0.5, STEPS), proximal=HardThreshold(), fan_in=Cap(3)),
    "fan-in, LATS": scheduled(sgd, LATS(l1=0.1), fan_in=Cap(3, steps=STEPS)),
    "fan-in of one shard": one_over,
    "fan-in and fan-out": scheduled(adamw, LATS(l1=0.1), caps=Caps(Cap(4, steps=STEPS), Cap(2, steps=STEPS))),
    "resumed": resumed,
    "written from outside": written,
    "frozen": frozen,
    "unfrozen": unfrozen,
    "not finite": not_finite,
    "at initialization": at_initialization,
    "blown up": blown_up,
    "double precision": double,
    "ranks": ranks,
    "empty": empty,
}


def on_processes(names: list[str], count: int, folder: Path) -> list[dict[str, list[Any]]]:
    """What every process saw.

    Raises:
        RuntimeError: one of them failed.
    """
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", __file__, str(folder), *names]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{count} processes failed:\n{done.stderr[-6000:]}")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def main(folder: str, *names: str) -> None:
    """One process's part."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(minutes=1))  # of one that waits for another in vain
    size = dist.get_world_size()
    mesh = init_device_mesh("cpu", (size,))
    found = {name: CASES[name](mesh) for name in names}
    if size == 4:  # two replicas of two shards
        replicas = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replica", "shard"))
        found["replicas"] = CASES["prune_to under max_sparsity"](replicas)
    torch.save(found, Path(folder, f"{dist.get_rank()}.pt"))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
