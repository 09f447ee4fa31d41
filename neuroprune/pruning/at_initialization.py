"""Pruning at initialization: find the mask with a short run, go back to the start, train under the mask."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from neuroprune.pruning.pruner import SoftThresholdPruner
from neuroprune.schedules import Schedule


def prune_at_initialization(
    model: nn.Module, optimizer: Optimizer, schedule: Schedule, search: Callable[[SoftThresholdPruner], None]
) -> SoftThresholdPruner:
    """Search a mask by soft threshold pruning on a small budget, rewind, and keep the mask (Chen et al., ICLR 2023).

    `search` trains the model with the optimizer as long as the schedule is planned for. Afterwards weights, buffers
    and the optimizer (its momentum, its learning rates) are what they were before, except that the weights the search
    pruned are zero, and stay zero while you train on with the same optimizer.

        pruner = prune_at_initialization(model, optimizer, LATS(l1=1e-3), lambda pruner: train(model, optimizer, 200))
        train(model, optimizer, 10_000)
        pruner.finalize()

    Args:
        model: the network, at its initial weights; all parameters of the optimizer are its own.
        optimizer: the optimizer to search and to train with.
        schedule: rule for the threshold of the search.
        search: receives the pruner; calls `optimizer.step()` for every batch. An LR scheduler for the search belongs in
            here; the one for the training is best made afterwards.

    Returns:
        The pruner, frozen.

    Raises:
        ValueError: as `SoftThresholdPruner`, or a parameter of the optimizer is not the model's.
        RuntimeError: the search took no step.
    """
    own = {id(p) for p in model.parameters()}
    if not all(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            "prune_at_initialization: the optimizer holds a parameter that is not the model's, which could not be"
            " taken back to its initial value; pass the module that owns all of them"
        )
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict())
    pruner = SoftThresholdPruner(optimizer, schedule)
    try:
        search(pruner)
        if pruner.step == 0:
            raise RuntimeError(
                "prune_at_initialization: the search took no optimizer step, so there is no mask; call"
                " optimizer.step() for every batch"
            )
    except BaseException:
        pruner._detach()
        _rewind(model, optimizer, weights, state)
        raise
    pruner.freeze()
    masks = {parameter: parameter.detach() != 0 for parameter in pruner.parameters}
    _rewind(model, optimizer, weights, state)
    with torch.no_grad():
        for parameter, mask in masks.items():
            parameter.mul_(mask)
    return pruner


def _rewind(model: nn.Module, optimizer: Optimizer, weights: dict[str, torch.Tensor], state: dict[str, object]) -> None:
    model.load_state_dict(weights)
    optimizer.load_state_dict(state)
    optimizer.zero_grad()  # the search's last gradients, which the first step of the training would add to its own
