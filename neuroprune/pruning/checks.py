"""What a pruner refuses before it changes anything."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from neuroprune.pruning.fan_in import Caps
from neuroprune.pruning.maps import ProximalMap
from neuroprune.pruning.metric import Preconditioner
from neuroprune.pruning.rounding import Grid
from neuroprune.pruning.shards import WHOLE, Shards, local
from neuroprune.pruning.wrappers import check_exchange, is_wrapper
from neuroprune.schedules import Learned, Schedule

# Which pruner (by weak reference) holds a parameter. Two optimizers know nothing of each other, so that a parameter in
# both can be noticed here only.
_holders: Any = WeakIdKeyDictionary()
# Optimizers that have a pruner now.
_attached: WeakSet[Optimizer] = WeakSet()


def attach(optimizer: Optimizer) -> None:
    """Note that an optimizer has a pruner."""
    _attached.add(optimizer)


def detach(optimizer: Optimizer) -> None:
    """Note that it has none any more."""
    _attached.discard(optimizer)


def is_attached(optimizer: Optimizer) -> bool:
    """Whether it has one."""
    return optimizer in _attached


def claim(parameter: nn.Parameter, pruner: object) -> None:
    """Note that `pruner` holds a parameter.

    Raises:
        ValueError: another pruner does.
    """
    if _holder(parameter) not in (None, pruner):
        gc.collect()  # one that nobody refers to may only wait for the garbage collector
    if _holder(parameter) not in (None, pruner):
        raise ValueError(
            f"SoftThresholdPruner: a parameter of shape {tuple(parameter.shape)} is already pruned by another pruner,"
            " on another optimizer; call that one's finalize() first, or leave the parameter out here with a group"
            " that says prune=False"
        )
    _holders[parameter] = weakref.ref(pruner)


def release(parameters: Iterable[nn.Parameter]) -> None:
    """Note that nobody holds these parameters any more."""
    for parameter in parameters:
        _holders.pop(parameter, None)


def _holder(parameter: nn.Parameter) -> object | None:
    reference = _holders.get(parameter)
    return None if reference is None else reference()


def is_prunable(parameter: Tensor) -> bool:
    """Floating-point, of two or more dimensions, and trained."""
    return parameter.requires_grad and parameter.dim() >= 2 and parameter.is_floating_point()


def check_sharded(shards: Shards, schedule: Schedule, costs: object, rounding: Mapping[nn.Parameter, Grid]) -> None:
    """Refuse what is not done for parameters in shards.

    Raises:
        ValueError: costs, grids, or a schedule that runs the model.
    """
    if not shards.sharded:
        return
    reason = None
    if schedule.no_shards is not None:
        reason = f"{type(schedule).__name__}: {schedule.no_shards}"
    elif costs is not None:
        reason = (
            "costs are known by the parameter that the model computes with, which is another one than the optimizer's"
            " shard of it; leave costs out"
        )
    elif rounding:
        reason = "grids are given for whole parameters; round on one process, after the training"
    if reason is not None:
        raise ValueError(
            f"SoftThresholdPruner: the parameters are DTensors, in shards (FSDP2's fully_shard), and {reason}, or train"
            " with DistributedDataParallel"
        )


def check_flat(parameter: Tensor) -> None:
    """Refuse what FSDP1 keeps of many parameters in one row, and the pieces that it shows of it.

    Raises:
        ValueError: it is such.
    """
    if getattr(parameter, "_is_flat_param", False) or getattr(parameter, "_fsdp_flattened", False):
        raise ValueError(
            "SoftThresholdPruner: the optimizer holds parameters of FSDP1 (FullyShardedDataParallel), in which weights"
            " and biases of many layers lie in one row, cut where a process ends; train with FSDP2 (fully_shard) or"
            " DistributedDataParallel, or leave them out with a group that says prune=False"
        )


def nothing_to_prune(optimizer: Optimizer) -> str:
    """Why none of the optimizer's parameters is prunable."""
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    flat = (
        "; all of them have one dimension here: where weights of many layers lie in one row, as in DeepSpeed's ZeRO,"
        " nothing tells them from biases: train with FSDP2 (fully_shard) or DistributedDataParallel"
    )
    return (
        "SoftThresholdPruner: no prunable parameter among the optimizer's: prunable are floating-point parameters of"
        " two or more dimensions that require gradients, in groups without prune=False"
        f"{flat if trained and all(p.dim() == 1 for p in trained) else ''}"
    )


def check_arguments(optimizer: Optimizer, schedule: Schedule, proximal: object) -> None:
    """Refuse anything but an optimizer that steps once per gradient, a schedule, and a map that fits it.

    Raises:
        TypeError: one of them is something else.
        ValueError: thresholds that learn from a gradient the map has not.
    """
    if is_wrapper(optimizer):
        check_exchange(optimizer)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"SoftThresholdPruner: expected a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        raise TypeError(
            f"SoftThresholdPruner: {type(optimizer).__name__} never called Optimizer.__init__, so that its steps cannot"
            " be followed; give the optimizer inside it"
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError(
            "SoftThresholdPruner: LBFGS re-evaluates the model inside step(), where it would see the latent parameters"
            " instead of the weights; use a first-order optimizer such as SGD or AdamW"
        )
    check_exchange(optimizer)
    if getattr(optimizer, "parameters_as_bucket_view", False):
        raise TypeError(
            f"SoftThresholdPruner: the parameters of this {type(optimizer).__name__} are views of its buckets, which a"
            " pruner, that exchanges their storage inside the step, would part from them; give it"
            " parameters_as_bucket_view=False"
        )
    if not isinstance(schedule, Schedule):
        raise TypeError(f"SoftThresholdPruner: expected a schedule such as LATS(l1=...), got {type(schedule).__name__}")
    if not isinstance(proximal, ProximalMap):
        raise TypeError(
            f"SoftThresholdPruner: expected a proximal map such as proximal=HardThreshold(), got {proximal!r}"
        )
    if isinstance(schedule, Learned) and proximal.no_true_gradient is not None:
        raise ValueError(
            f"SoftThresholdPruner: {type(schedule).__name__} cannot be used with {type(proximal).__name__}:"
            f" {proximal.no_true_gradient}"
        )


def check_precondition(precondition: object, optimizer: Optimizer, schedule: Schedule, caps: Caps | None) -> None:
    """Refuse anything but None or a preconditioner that fits the optimizer, the schedule and the limits on synapses.

    Raises:
        TypeError: something else than a preconditioner.
        ValueError: it does not fit.
    """
    if isinstance(precondition, Preconditioner):
        precondition.check(optimizer, schedule, caps)
    elif precondition is not None:
        raise TypeError(f"SoftThresholdPruner: expected precondition=Preconditioner(), got {precondition!r}")


def check_costs(costs: object, schedule: Schedule, caps: Caps | None) -> None:
    """Refuse costs that do not fit the schedule and the limits on synapses.

    Raises:
        TypeError: no costs.
        ValueError: they do not fit.
    """
    if costs is None:
        return
    if not all(callable(getattr(costs, name, None)) for name in ("of", "advance", "saved", "restore")):
        raise TypeError(
            f"SoftThresholdPruner: expected costs=SynapticCosts(model) or others of that kind, got"
            f" {type(costs).__name__}"
        )
    if isinstance(schedule, Learned) or schedule.initial_threshold > 0:
        raise ValueError(
            f"SoftThresholdPruner: {type(schedule).__name__} has thresholds before the first step, when nothing is"
            " known of the weights' costs; use a schedule that starts at 0, such as LATS or SparsityRamp, or no costs"
        )
    if caps is not None and not schedule.ranked:
        raise ValueError(
            f"SoftThresholdPruner: thresholds scaled by costs that grow, as those of {type(schedule).__name__}, cannot"
            " be raised for a limit on synapses; use SparsityRamp, or leave costs out"
        )


def check_rounding(rounding: object, optimizer: Optimizer, schedule: Schedule) -> None:
    """Refuse grids for what the optimizer does not hold, and grids that do not fit their parameter or the schedule.

    Raises:
        TypeError: something else than a mapping from parameters to grids.
        ValueError: as said.
    """
    if not isinstance(rounding, Mapping) or not all(isinstance(grid, Grid) for grid in rounding.values()):
        raise TypeError("SoftThresholdPruner: expected rounding={parameter: Grid(step, quant_min, quant_max), ...}")
    if rounding and isinstance(schedule, Learned):
        raise ValueError(
            f"SoftThresholdPruner: {type(schedule).__name__} learns from the true gradient of its threshold, which"
            " rounding has not; prune first, finalize(), and round with ConstantThreshold(0.0) and freeze()"
        )
    held = {p for group in optimizer.param_groups for p in group["params"]}
    for parameter, grid in rounding.items():
        shape = tuple(parameter.shape)
        if parameter not in held:
            raise ValueError(
                f"SoftThresholdPruner: rounding names a parameter of shape {shape} that is not the optimizer's, so that"
                " it would never be rounded; give it to the optimizer, or leave it out"
            )
        if parameter.dim() >= 2 and not grid.holds_zero:
            raise ValueError(
                f"SoftThresholdPruner: the grid of a parameter of shape {shape} does not hold 0.0, which pruned weights"
                " are; leave zero_point out, and let quant_min … quant_max include 0"
            )
        for tensor in (grid.step, grid.zero_point):
            if tensor is not None and not _broadcasts(tensor, parameter):
                raise ValueError(
                    f"SoftThresholdPruner: a grid's step or zero_point of shape {tuple(tensor.shape)} does not"
                    f" broadcast to its parameter's {shape}; one step per output channel is (out, 1, …)"
                )


def _broadcasts(tensor: Tensor, parameter: Tensor) -> bool:
    pairs = zip(reversed(tensor.shape), reversed(parameter.shape), strict=False)
    return tensor.dim() <= parameter.dim() and all(n in (1, m) for n, m in pairs)


def check_rates(optimizer: Optimizer, step: int) -> None:
    """Refuse a learning rate that is negative, NaN or infinite.

    Raises:
        ValueError: there is one.
    """
    for index, group in enumerate(optimizer.param_groups):
        if not (math.isfinite(rate := float(group["lr"])) and rate >= 0):
            raise ValueError(
                f"SoftThresholdPruner: parameter group {index} has the learning rate {rate} at step {step}, it must be"
                " a finite number >= 0; the step was not taken"
            )


def check_thresholds(thresholds: Iterable[float], optimizer: Optimizer, schedule: Schedule, when: str) -> None:
    """Refuse thresholds that are none, or that the parameters' numbers do not reach.

    Raises:
        ValueError: the first of them.
    """
    kinds = {p.dtype for group in optimizer.param_groups for p in group["params"] if p.is_floating_point()}
    largest = min((torch.finfo(kind).max for kind in kinds), default=math.inf)
    for d in thresholds:
        if not 0 <= d <= largest or d == math.inf:
            raise ValueError(
                f"SoftThresholdPruner: {schedule} gives the threshold {d} {when}; it must be a finite number >= 0"
                f" that the parameters' precision holds, at most {largest:.3g}"
            )


def check_gradients(optimizer: Optimizer, step: int, shards: Shards = WHOLE) -> None:
    """Refuse gradients with NaN or infinity, before they reach a weight or the optimizer's state.

    Over shards one number is sent, so that all processes refuse what any of them must.

    Raises:
        FloatingPointError: there is one; it names the parameter.
    """
    gradients = [
        (index, p.grad)
        for index, group in enumerate(optimizer.param_groups)
        for p in group["params"]
        if p.grad is not None
    ]
    by_device: dict[torch.device, list[Tensor]] = {}
    for _, gradient in gradients:
        by_device.setdefault(gradient.device, []).append(_values(gradient).sum())
    # One sum per gradient and one answer per device; only an infinite sum, which may be mere overflow, is looked into.
    fine = all(bool(torch.stack([s.float() for s in sums]).isfinite().all()) for sums in by_device.values())
    if not shards.any(not fine):
        return
    counts = shards.sums([int((~_values(gradient).isfinite()).sum()) for _, gradient in gradients])
    for (index, gradient), bad in zip(gradients, counts, strict=True):
        if bad:
            size = gradient.numel() if shards.sharded else _values(gradient).numel()
            raise FloatingPointError(
                f"SoftThresholdPruner: {min(bad, size)} of {size} gradient values are NaN or infinite, in a"
                f" parameter of shape {tuple(gradient.shape)} of group {index} at step {step}; the step was not taken,"
                " nothing was changed; lower the learning rate, or scale the loss with torch.amp.GradScaler"
            )


def _values(gradient: Tensor) -> Tensor:
    return gradient.detach().coalesce().values() if gradient.is_sparse else local(gradient).detach()
