"""The pruner to use when nothing else is asked for than a sparsity, or a budget."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.optim import Optimizer

from neuroprune._numbers import plain
from neuroprune.pruning.clipping import MULTIPLE
from neuroprune.pruning.costs import Costs
from neuroprune.pruning.fan_in import Cap, Caps, ChipLimits
from neuroprune.pruning.maps import HardThreshold
from neuroprune.pruning.metric import Preconditioner, has_metric
from neuroprune.pruning.pruner import SoftThresholdPruner
from neuroprune.schedules import BudgetRamp, Schedule, SparsityRamp


def prune_to(
    sparsity: float,
    optimizer: Optimizer,
    *,
    steps: int,
    fan_in: Cap | None = None,
    fan_out: Cap | None = None,
    caps: Caps | ChipLimits | None = None,
    costs: Costs | None = None,
) -> SoftThresholdPruner:
    """A pruner that ends at a sparsity after `steps` optimizer steps, with any optimizer and any LR schedule.

        pruner = prune_to(0.95, optimizer, steps=len(loader) * epochs)
        ...                      # train as before; optimizer.step() prunes
        pruner.finalize()

    It is `SoftThresholdPruner(optimizer, SparsityRamp(sparsity, steps), proximal=HardThreshold(), clip_pruned=3)`, with
    `precondition=Preconditioner(damping=1.0)` where the optimizer is Adam, AdamW, NAdam, RMSprop or Adagrad: weights
    keep their value or are zero, pruned ones get straight-through gradients and may come back, and the threshold is the
    quantile of all |θ|, or of all |θ|·√h in the metric h of those optimizers, rising over the first half of the run.

    Why not LATS, the published method: a soft threshold takes d from every survivor, and an optimizer that moves a
    weight by about η whatever its gradient (Adam) cannot carry it back in a short run; a threshold given as a number
    can be outgrown behind a normalization, where the scale of weights is free, until the layers without one are
    emptied. A quantile follows the weights.

    Why gradients at pruned weights are limited (`clip_pruned_`): a neuron pruned whole does not vary, and a batch-norm
    behind it hands back gradients hundreds of times too large; one step, and its latent values outrank all others, or
    with Adam its metric does. Without the limit a small SEW ResNet fell to chance at 99 % zeros (SGD and AdamW,
    validation images), and one of three seeds of a spiking MLP to 15 %. With it (test accuracy in %, mean of 3 seeds,
    Fashion-MNIST, SGD, at 80 / 90 / 95 / 98 / 99 % zeros; `examples/benchmarks/results/frontier_quick.jsonl`):

        spiking MLP       86.3 86.4 86.2 85.6 84.9   gradual 86.1 86.1 85.9 84.8 84.1   LATS 86.4 86.2 86.1 85.4 84.6
        small SEW ResNet  81.5 81.5 80.6 78.4 74.9   gradual 81.0 80.8 80.0 76.7 70.5   LATS 81.4 81.1 81.3 78.8 73.5
        LeNet             88.8 88.7 88.6 87.6 86.9   gradual 88.7 88.6 88.4 87.2 84.6   LATS 88.7 88.7 88.4 87.6 86.5

    Of sixteen methods there another was ahead by more than a standard error in four of the 15 cells, by 0.14 to 0.74.

    Why the metric: to prune θ costs about ½·h·θ² of the loss where h is its curvature, and √v, which the optimizer
    keeps anyway, says how weights compare in that. With small learning rates, where nothing that was cut wrongly is won
    back, it decides. It costs a second copy of the weights, their thresholds. SGD keeps no v: to prune a trained
    network, prefer AdamW.

    Measured on the digits (MLP 64-128-64-10, test accuracy in %, mean of 5 seeds, at 80 / 90 / 95 / 98 % zeros; every
    cell is in `examples/benchmarks/results/optimizers.json`), against gradual magnitude pruning in the same loop and
    LATS:

        AdamW 3e-3, 300 steps    95.7 94.8 92.9 83.2   gradual 94.7 93.3 82.9 49.9   LATS 80.5 46.0 29.8 14.5
        AdamW 1e-2, 300 steps    97.4 97.2 96.4 92.9   gradual 96.8 95.2 92.6 79.3   LATS 95.2 92.5 84.9 53.5
        AdamW 3e-3, 1000 steps   97.5 97.4 96.8 94.4   gradual 97.5 96.8 94.7 88.4   LATS 96.8 95.1 92.0 78.6
        SGD 0.1, 300 steps       96.6 96.3 96.3 94.9   gradual 96.6 96.5 96.0 92.0   LATS 95.6 94.6 93.6 90.1
        SGD 0.1, 1000 steps      97.0 97.2 97.3 96.4   gradual 96.9 97.0 97.0 95.2   LATS 96.8 96.8 96.4 95.8

    and in fine-tuning for 300 steps a trained network, which to cut without training leaves 85.8 43.3 26.0 13.1:

        AdamW 1e-5               96.4 94.8 86.7 52.5   gradual 87.9 46.3 28.4 13.1   LATS 38.3 17.0 12.2 10.4
        AdamW 1e-3               97.4 97.2 95.5 82.3   gradual 97.0 94.7 77.8 23.9   LATS 91.5 42.5 14.9 10.4
        SGD 1e-5                 86.6 44.2 26.1 13.2   gradual 86.3 43.7 26.1 13.2   LATS 35.2 16.6 10.7 10.4
        SGD 1e-2                 97.1 96.5 94.3 70.6   gradual 96.8 94.7 83.1 37.6   LATS 92.4 66.6 23.6 10.6

    The metric and its damping were chosen on validation images; that the ramp takes half of the run had been chosen
    with these test images, which flatters it a little. A layer that becomes all zero is warned about, once. Parameters
    cannot join in mid-run.

    Args:
        sparsity: fraction of zeros among the prunable weights to end at, in [0, 1).
        optimizer: any optimizer that evaluates the gradient before `step()`.
        steps: optimizer steps of the whole run.
        fan_in: limit on the synapses that end in a neuron, for example `Cap(4096)`.
        fan_out: limit on those that start from one in each parameter.
        caps: instead of both, the chip that says them.
        costs: what weights cost on a chip, for example `SynapticCosts(model)`: of two weights alike the one that is
            used more often goes first.

    Raises:
        TypeError, ValueError: as `SoftThresholdPruner` and `SparsityRamp`.
    """
    return _hard(optimizer, SparsityRamp(plain(sparsity), plain(steps)), fan_in, fan_out, caps, costs)


def prune_to_budget(
    budget: float,
    measure: Callable[[], float],
    optimizer: Optimizer,
    *,
    steps: int,
    every: int | None = None,
    fan_in: Cap | None = None,
    fan_out: Cap | None = None,
    caps: Caps | ChipLimits | None = None,
    costs: Costs | None = None,
) -> SoftThresholdPruner:
    """A pruner that ends within a budget of what is measured, and not at a sparsity; otherwise `prune_to`.

        measure = synops_per_sample(model, images, len(images))
        pruner = prune_to_budget(50_000, measure, optimizer, steps=steps)

    or `hw_targets.on_chip(model, images, "loihi1", "energy")`, in joules, for a chip; also "time", "cores". See
    `BudgetRamp`: the measure falls from what it is in the beginning to the budget over the first half of the run, and
    the last step looks for the threshold that keeps it, with the very measure. A measure in small steps is met from
    below to 1 %.

    Args:
        budget: most that may be measured in the end, in the measure's own unit.
        measure: returns it; called inside `optimizer.step()` while the model holds the weights that it would have, and
            once now, so that one that cannot measure is refused at once.
        optimizer: as for `prune_to`, and so is all else.
        steps: likewise.
        every: optimizer steps between two measurements, by default a fortieth of the run.
        fan_in: likewise.
        fan_out: likewise.
        caps: likewise.
        costs: likewise.

    Raises:
        TypeError, ValueError, RuntimeError: as `SoftThresholdPruner` and `BudgetRamp`; in the first step that measures,
            where the budget is out of reach. What the measure raises.
    """
    schedule = BudgetRamp(plain(budget), measure, plain(steps), every=None if every is None else plain(every))
    pruner = _hard(optimizer, schedule, fan_in, fan_out, caps, costs)
    try:
        with torch.no_grad():
            pruner._around.look(lambda: schedule.measured("of the model as it is"))
    except BaseException:
        pruner._detach()
        raise
    return pruner


def _hard(
    optimizer: Optimizer,
    schedule: Schedule,
    fan_in: Cap | None,
    fan_out: Cap | None,
    caps: Caps | ChipLimits | None,
    costs: Costs | None,
) -> SoftThresholdPruner:
    return SoftThresholdPruner(
        optimizer,
        schedule,
        proximal=HardThreshold(),
        fan_in=fan_in,
        fan_out=fan_out,
        caps=caps,
        costs=costs,
        precondition=Preconditioner(damping=1.0) if has_metric(optimizer) else None,
        clip_pruned=MULTIPLE,
    )
