"""Loops on several processes, which talk through gloo: each process says what it found, and all must say the same.

`python -m examples.benchmarks.trainer_cases.sharded NAME … FOLDER` is what torchrun starts on each of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from examples.benchmarks.trainer_cases import fsdp2
from examples.benchmarks.trainer_cases.loops import refused
from examples.benchmarks.trainer_cases.reference import (
    STEPS,
    Outcome,
    Verdict,
    adamw,
    batch,
    by_hand,
    compare,
    criterion,
    lats,
    network,
    outcome,
    same,
)
from neuroprune._require import require

ROOT = Path(__file__).parents[3]


def part_loss(model: nn.Module, step: int) -> Tensor:
    """The loss of this process's part of a batch."""
    inputs, targets = batch(step)
    rank, size = dist.get_rank(), dist.get_world_size()
    return criterion(model(inputs[rank::size]), targets[rank::size])


def by_hand_on_all() -> Outcome:
    """The loop by hand, gradients averaged over the processes by DistributedDataParallel."""
    model = network()
    spread = DistributedDataParallel(model)
    return by_hand(model=model, loss=lambda _, step: part_loss(spread, step))


def trained_alike(net: nn.Module, optimizer: Any, scheduler: Any, backward: Callable[[int], object]) -> Verdict | None:
    """Takes all steps; a verdict where processes do not hold the same after one of them."""
    for step in range(STEPS):
        optimizer.zero_grad()
        backward(step)
        optimizer.step()
        scheduler.step()
        if not alike(net):
            return Verdict("wrong", f"processes differ after step {step}")
    return None


def ddp() -> Verdict:
    """DistributedDataParallel; all processes hold the same after every step."""
    model = network()
    spread = DistributedDataParallel(model)
    optimizer, scheduler = adamw(model)
    pruner = lats(optimizer)
    parted = trained_alike(model, optimizer, scheduler, lambda step: torch.autograd.backward(part_loss(spread, step)))
    return parted or compare(outcome(model, optimizer, pruner), by_hand_on_all())


def zero(views: bool) -> Verdict:
    """ZeroRedundancyOptimizer: each process steps its part of the parameters, and sends them to the others."""
    model = network()
    spread = DistributedDataParallel(model)
    optimizer: Any = ZeroRedundancyOptimizer(
        model.parameters(), optimizer_class=AdamW, parameters_as_bucket_view=views, lr=5e-3
    )
    if views:
        return refused(optimizer)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    pruner = lats(optimizer)
    parted = trained_alike(model, optimizer, scheduler, lambda step: torch.autograd.backward(part_loss(spread, step)))
    if parted is not None:
        return parted
    optimizer.consolidate_state_dict(to=0)
    wanted = by_hand_on_all()
    if dist.get_rank() == 0:
        return compare(outcome(model, optimizer, pruner), wanted)
    same_weights = same(dict(model.state_dict()), wanted.weights)
    return Verdict("exact") if same_weights else Verdict("wrong", "weights differ")


def accelerate_ddp() -> Verdict:
    """Accelerate, which prepares a DistributedDataParallel."""
    made = require("accelerate", "integrations").Accelerator(cpu=True, step_scheduler_with_optimizer=False)
    net = network()
    model, optimizer, scheduler = made.prepare(net, *adamw(net))
    pruner = lats(optimizer.optimizer)
    parted = trained_alike(net, optimizer, scheduler, lambda step: made.backward(part_loss(model, step)))
    return parted or compare(outcome(net, optimizer, pruner), by_hand_on_all())


def fsdp1(original: bool) -> Verdict:
    """The older FullyShardedDataParallel."""
    model = FullyShardedDataParallel(network(), use_orig_params=original, device_id=torch.device("cpu"))
    return refused(adamw(model)[0])


def tensor_parallel() -> Verdict:
    """A layer split over its outputs: DTensors again."""
    model = network()
    parallelize_module(model, init_device_mesh("cpu", (dist.get_world_size(),)), {"0": ColwiseParallel()})
    return refused(adamw(model)[0])


def sharded_since() -> Verdict:
    """`fully_shard` after the pruner was attached, as by Accelerate's `prepare`: refused at the first step."""
    model = network()
    optimizer, _ = adamw(model)
    lats(optimizer)
    old = list(model.parameters())
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    new = dict(zip(old, model.parameters(), strict=True))
    for group in optimizer.param_groups:
        group["params"] = [new[p] for p in group["params"]]
    torch.autograd.backward(part_loss(model, 0))
    try:
        optimizer.step()
    except (TypeError, ValueError) as error:
        return Verdict("refused", str(error))
    return Verdict("wrong", "it stepped")


def flattened() -> Verdict:
    """One row of all weights, as DeepSpeed's ZeRO gives its optimizer."""
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in network().parameters()]))
    return refused(AdamW([flat], lr=5e-3))


CASES: Mapping[str, Callable[[], Verdict]] = {
    "ddp": ddp,
    "accelerate ddp": accelerate_ddp,
    "zero": lambda: zero(views=False),
    "zero, bucket views": lambda: zero(views=True),
    "fsdp1": lambda: fsdp1(original=False),
    "fsdp1, use_orig_params": lambda: fsdp1(original=True),
    **{name: run for name, (_, _, run) in fsdp2.CASES.items()},
    "fsdp2 after the pruner": sharded_since,
    "tensor parallel": tensor_parallel,
    "flattened": flattened,
}


def alike(model: nn.Module) -> bool:
    """Whether all processes hold the same weights, bit for bit."""
    mine = torch.cat([p.detach().flatten() for p in model.parameters()])
    first = mine.clone()
    dist.broadcast(first, 0)
    equal = torch.tensor(int(torch.equal(mine, first)))
    dist.all_reduce(equal, dist.ReduceOp.MIN)
    return bool(equal)


def on_processes(names: Sequence[str], count: int) -> dict[str, Verdict]:
    """Run cases on so many processes; "wrong" where two of them say different things, or one ends without a word.

    Raises:
        RuntimeError: the processes could not be started, or one died.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={count}", "-m", __name__, *names, folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        paths = sorted(Path(folder).glob("*.json"))
        if done.returncode != 0 or len(paths) != count:
            raise RuntimeError(f"torchrun of {', '.join(names)} on {count} processes failed:\n{done.stderr[-4000:]}")
        found = [json.loads(path.read_text()) for path in paths]
    verdicts = {}
    for name in names:
        here = [Verdict(*part[name]) for part in found]
        statuses = {verdict.status for verdict in here}
        different = Verdict("wrong", f"processes disagree: {[(v.status, v.message) for v in here]}")
        verdicts[name] = here[0] if len(statuses) == 1 else different
    return verdicts


def main(names: Sequence[str], folder: str) -> None:
    """One process's part."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found: dict[str, Any] = {}
    for name in names:
        verdict = CASES[name]()
        found[name] = (verdict.status, verdict.message)
        dist.barrier()
    Path(folder, f"{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:-1], sys.argv[-1])
