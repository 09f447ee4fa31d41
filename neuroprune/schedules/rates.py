"""What an LR scheduler is going to do."""

from __future__ import annotations

import copy
import warnings

import torch

from neuroprune._numbers import check_whole


def learning_rates(
    scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int, *, steps_per_update: int = 1
) -> list[list[float]]:
    """Learning rates of the next `steps` optimizer steps, one list per step with one value per parameter group.

    Raises:
        ValueError: `steps` or `steps_per_update` below 1, or a scheduler that needs a measured value
            (ReduceLROnPlateau), whose rates cannot be known ahead.
        TypeError: something else than a scheduler, such as a framework's wrapper of one.
    """
    steps = check_whole("learning_rates", "steps", steps)
    steps_per_update = check_whole("learning_rates", "steps_per_update", steps_per_update)
    if not isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
        raise TypeError(
            f"learning_rates: expected a scheduler of torch.optim.lr_scheduler, got {type(scheduler).__name__}; give"
            " the one inside it, if it wraps one"
        )
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise ValueError(
            "learning_rates: ReduceLROnPlateau depends on a measured value, so its rates cannot be known ahead;"
            " give LATS(l1=...) instead"
        )
    # Tensors are left out of the copy: a dry run needs the rates alone.
    memo: dict[int, object] = {id(p): p for g in scheduler.optimizer.param_groups for p in g["params"]}
    memo[id(scheduler.optimizer.state)] = {}
    ahead = copy.deepcopy(scheduler, memo)
    rates: list[list[float]] = []
    with warnings.catch_warnings():
        # The copy's optimizer never steps, which LR schedulers warn about.
        warnings.simplefilter("ignore", UserWarning)
        for step in range(steps):
            rates.append([float(g["lr"]) for g in ahead.optimizer.param_groups])
            if (step + 1) % steps_per_update == 0 and step + 1 < steps:
                ahead.step()
    return rates


def first_pruned(optimizer: torch.optim.Optimizer) -> int:
    """Index of the first parameter group without `prune=False`, 0 if there is none."""
    return next((i for i, group in enumerate(optimizer.param_groups) if group.get("prune", True)), 0)
