"""FSDP2 (`fully_shard`), whose parameters are in shards: held to loops by hand that gather every tensor whole."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from examples.benchmarks.trainer_cases.reference import (
    STEPS,
    Outcome,
    Verdict,
    batch,
    compare,
    criterion,
    network,
    same,
)
from neuroprune import LATS, PGH, FixedCosts, SoftThresholdPruner, prune_to, prune_to_budget
from neuroprune.pruning.clipping import clip_pruned_

BETA, SPARSITY = 0.1, 0.7


@dataclass(frozen=True)
class Loop:
    """What is trained how: "LATS", "PGH" or "prune_to", "AdamW" or "SGD", and what `fully_shard` is told."""

    method: str = "LATS"
    optimizer: str = "AdamW"
    policy: MixedPrecisionPolicy = MixedPrecisionPolicy()  # noqa: RUF009 - frozen
    replicas: int = 1

    @property
    def l1(self) -> float:
        """μ₀, for about a third of zeros."""
        return {"LATS": 1.0, "PGH": 2.0}.get(self.method, 0.0) * (0.5 if self.optimizer == "AdamW" else 0.05)

    def model(self) -> nn.Sequential:
        """The network, each layer and the whole in shards."""
        model = network()
        processes = mesh(self.replicas)
        for part in (*(layer for layer in model if isinstance(layer, nn.Linear)), model):
            fully_shard(part, mesh=processes, mp_policy=self.policy)
        return model

    def made(self, model: nn.Module) -> tuple[Optimizer, CosineAnnealingLR]:
        """Optimizer and scheduler."""
        optimizer: Optimizer = (
            AdamW(model.parameters(), lr=5e-3)
            if self.optimizer == "AdamW"
            else SGD(model.parameters(), lr=0.05, momentum=0.9)
        )
        return optimizer, CosineAnnealingLR(optimizer, STEPS)

    def pruner(self, optimizer: Optimizer) -> SoftThresholdPruner:
        """What is judged."""
        if self.method == "prune_to":
            return prune_to(SPARSITY, optimizer, steps=STEPS)
        schedule = LATS(l1=self.l1) if self.method == "LATS" else PGH(l1=self.l1, beta=BETA, steps=STEPS)
        return SoftThresholdPruner(optimizer, schedule)


def mesh(replicas: int = 1) -> DeviceMesh:
    """Of all processes; with replicas, of as many groups of them that hold the same."""
    size = dist.get_world_size()
    if replicas == 1:
        return init_device_mesh("cpu", (size,))
    return init_device_mesh("cpu", (replicas, size // replicas), mesh_dim_names=("replica", "shard"))


def backward(model: nn.Module, optimizer: Optimizer, step: int) -> None:
    """Gradients of this process's part of a batch, averaged by FSDP2, and their norm limited."""
    inputs, targets = batch(step)
    rank, size = dist.get_rank(), dist.get_world_size()
    optimizer.zero_grad()
    torch.autograd.backward(criterion(model(inputs[rank::size]).float(), targets[rank::size]))
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def whole(value: Any) -> Any:
    """Nested values with every DTensor gathered; copies."""
    if isinstance(value, DTensor):
        return value.full_tensor().clone()
    if isinstance(value, Mapping):
        return {key: whole(inner) for key, inner in value.items()}
    return copy.deepcopy(value)


@torch.no_grad()
def put(parameter: Tensor, values: Tensor) -> None:
    """Write a whole tensor into a parameter in shards."""
    assert isinstance(parameter, DTensor)
    parameter.copy_(distribute_tensor(values, parameter.device_mesh, parameter.placements))


def by_hand(loop: Loop) -> Outcome:
    """The loop without a pruner: θ and w whole on every process, the optimizer alone works on shards."""
    model = loop.model()
    optimizer, scheduler = loop.made(model)
    weights = [p for p in model.parameters() if p.dim() > 1]
    theta = [whole(p.detach()) for p in weights]
    threshold, usual = 0.0, dict[nn.Parameter, Tensor]()
    for step in range(STEPS):
        backward(model, optimizer, step)
        if loop.method == "prune_to":
            usual = clip(weights, usual)
        for parameter, latent in zip(weights, theta, strict=True):
            put(parameter, latent)
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        theta = [whole(p.detach()) for p in weights]
        if loop.method == "prune_to":
            scores = [latent.abs() * metric(optimizer, p) for p, latent in zip(weights, theta, strict=True)]
            threshold = quantile(scores, ramp(step + 1))
            found = [latent * (score > threshold) for latent, score in zip(theta, scores, strict=True)]
        else:
            decay = BETA ** (step / STEPS) if loop.method == "PGH" else 1.0
            threshold = threshold + loop.l1 * (decay * lr)
            found = [F.softshrink(latent, threshold) for latent in theta]
        for parameter, weight in zip(weights, found, strict=True):
            put(parameter, weight)
        scheduler.step()
    position = {p: index for index, p in enumerate(model.parameters())}
    latents = {position[p]: latent for p, latent in zip(weights, theta, strict=True)}
    return Outcome(whole(model.state_dict()), latents, threshold, whole(optimizer.state_dict()["state"]))


def clip(weights: list[nn.Parameter], usual: dict[nn.Parameter, Tensor]) -> dict[nn.Parameter, Tensor]:
    """Limit gradients at pruned weights, of whole tensors; what is remembered of each."""
    found = {}
    for parameter in weights:
        gradient = whole(parameter.grad)
        found[parameter] = clip_pruned_(gradient, whole(parameter.detach()), usual=usual.get(parameter))
        assert parameter.grad is not None
        put(parameter.grad, gradient)
    return found


def ramp(taken: int) -> float:
    """The sparsity after so many steps: all of it after half of the run."""
    return float(SPARSITY * (1.0 - (1.0 - min(1.0, taken / (STEPS // 2))) ** 3))


def metric(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    """√(h + mean h), h = √(v/(1 − β₂ᵗ)) + ε of AdamW; 1 of SGD."""
    if not isinstance(optimizer, AdamW):
        return torch.ones(())
    state, group = optimizer.state[parameter], optimizer.param_groups[0]
    h = whole(state["exp_avg_sq"]).sqrt() / (1.0 - group["betas"][1] ** state["step"].double()).sqrt() + group["eps"]
    root: Tensor = (h + h.mean()).sqrt()
    return root


def quantile(scores: list[Tensor], sparsity: float) -> float:
    """The score of the last one that is to be zero."""
    flat = torch.cat([score.flatten() for score in scores]).sort().values
    return float(flat[math.ceil(sparsity * len(flat)) - 1])


def outcome(model: nn.Module, optimizer: Optimizer, pruner: SoftThresholdPruner) -> Outcome:
    """Of a run with a pruner, gathered."""
    state = pruner.state_dict()
    return Outcome(
        whole(model.state_dict()), state["latents"], state["thresholds"][0], whole(optimizer.state_dict()["state"])
    )


def trained(loop: Loop, stop: int | None = None) -> Verdict:
    """The loop with the pruner, held to the one by hand; made anew at step `stop` from what is saved there."""
    model = loop.model()
    optimizer, scheduler = loop.made(model)
    pruner = loop.pruner(optimizer)
    for step in range(STEPS):
        if step == stop:
            model, optimizer, scheduler, pruner = resumed(loop, model, optimizer, scheduler, pruner)
        backward(model, optimizer, step)
        optimizer.step()
        scheduler.step()
        if not alike(model, pruner):
            return Verdict("wrong", f"processes differ after step {step}")
    return compare(outcome(model, optimizer, pruner), by_hand(loop))


def resumed(
    loop: Loop, model: nn.Module, optimizer: Optimizer, scheduler: CosineAnnealingLR, pruner: SoftThresholdPruner
) -> tuple[nn.Sequential, Optimizer, CosineAnnealingLR, SoftThresholdPruner]:
    """All of it made anew from the bytes of a checkpoint: shards of weights and optimizer, the pruner's state whole."""
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (model, optimizer, scheduler, pruner)], file)
    file.seek(0)
    new = loop.model()
    new_optimizer, new_scheduler = loop.made(new)
    new_pruner = loop.pruner(new_optimizer)
    weights, moments, rates, pruned = torch.load(file, weights_only=False)
    new.load_state_dict(weights)
    new_optimizer.load_state_dict(moments)
    new_scheduler.load_state_dict(rates)
    new_pruner.load_state_dict(pruned)
    return new, new_optimizer, new_scheduler, new_pruner


def forgotten() -> Verdict:
    """A run that is resumed without the pruner's state."""
    loop = Loop()
    model = loop.model()
    optimizer, _ = loop.made(model)
    loop.pruner(optimizer)
    for step in range(4):
        backward(model, optimizer, step)
        optimizer.step()
    new = loop.model()
    new_optimizer, _ = loop.made(new)
    loop.pruner(new_optimizer)
    new.load_state_dict(model.state_dict())
    new_optimizer.load_state_dict(optimizer.state_dict())
    backward(new, new_optimizer, 4)
    return told(new_optimizer.step)


def columns() -> Verdict:
    """`fully_shard` told to split columns."""
    model = network()
    fully_shard(model[0], mesh=mesh(), shard_placement_fn=lambda p: Shard(p.dim() - 1))
    return told(lambda: Loop().pruner(Loop().made(model)[0]))


def some_whole() -> Verdict:
    """Only one of the layers is in shards."""
    model = network()
    fully_shard(model[0], mesh=mesh())
    return told(lambda: Loop().pruner(Loop().made(model)[0]))


def to_budget() -> Verdict:
    """A schedule that runs the model inside the step."""
    model = Loop().model()
    return told(lambda: prune_to_budget(1.0, lambda: 1.0, Loop().made(model)[0], steps=STEPS))


def with_costs() -> Verdict:
    """Costs of the weights."""
    model = Loop().model()
    return told(lambda: prune_to(0.5, Loop().made(model)[0], steps=STEPS, costs=FixedCosts({})))


def told(call: Callable[[], Any]) -> Verdict:
    """What a call refuses with."""
    try:
        call()
    except (RuntimeError, TypeError, ValueError) as error:
        return Verdict("refused", str(error))
    return Verdict("wrong", "it was accepted")


def alike(model: nn.Module, pruner: SoftThresholdPruner) -> bool:
    """Whether all processes hold the same weights, thresholds and sparsity, bit for bit."""
    mine = (whole(model.state_dict()), pruner.thresholds, pruner.l1, pruner.sparsity())
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return all(same(list_of(other), list_of(mine)) for other in found)


def list_of(seen: tuple[Any, ...]) -> dict[int, Any]:
    """As a mapping, which `same` compares by its tensors."""
    return dict(enumerate(seen))


#: Key of a case: how its loop is called, what is expected, how it is run.
CASES: Mapping[str, tuple[str, str, Callable[[], Verdict]]] = {
    **{
        f"fsdp2, {method}, {optimizer}": (
            f"FSDP2 (fully_shard), {method}, {optimizer}",
            "exact",
            partial(trained, Loop(method, optimizer)),
        )
        for method in ("LATS", "PGH", "prune_to")
        for optimizer in ("AdamW", "SGD")
    },
    "fsdp2, resumed": ("FSDP2, prune_to, AdamW, resumed", "exact", partial(trained, Loop("prune_to"), 9)),
    "fsdp2, bfloat16": (
        "FSDP2, MixedPrecisionPolicy(param_dtype=bfloat16)",
        "exact",
        partial(trained, Loop(policy=MixedPrecisionPolicy(torch.bfloat16, torch.float32))),
    ),
    "fsdp2, replicas": (
        "FSDP2 over 2 replicas (HSDP), prune_to, AdamW",
        "exact",
        partial(trained, Loop("prune_to", replicas=2)),
    ),
    "fsdp2, forgotten": ("FSDP2, resumed without the pruner's state", "refused", forgotten),
    "fsdp2, columns": ("FSDP2, columns split (Shard(1))", "refused", columns),
    "fsdp2, some whole": ("FSDP2 of one layer alone", "refused", some_whole),
    "fsdp2, budget": ("FSDP2, prune_to_budget", "refused", to_budget),
    "fsdp2, costs": ("FSDP2, costs of the weights", "refused", with_costs),
}
