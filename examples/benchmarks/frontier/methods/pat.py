"""torchao's proximal pruning."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch.optim import Optimizer

from examples.benchmarks.frontier.methods.base import Handle, Knob, Run, prunable, sparsity_of
from neuroprune import SoftThresholdPruner

KNOB = Knob("reg_lambda", 2e-3)


@dataclass(frozen=True)
class PAT:
    """`torchao.prototype.pat`: ProxLasso over single weights, through torchao's own optimizer; λ is calibrated."""

    name: str = "pat"
    knob: Knob | None = KNOB

    def attach(self, run: Run) -> Handle:
        """Wrap the optimizer. Raises ImportError without torchao."""
        return _PAT(run)


class _PAT:
    pruner: SoftThresholdPruner | None = None

    def __init__(self, run: Run) -> None:
        if run.knob is None:
            raise ValueError("pat: needs reg_lambda (knob=...), which calibration finds for a target sparsity")
        self._lambda = run.knob
        self._parameters = prunable(run.optimizer)
        for group in run.optimizer.param_groups:
            if group.get("prune", True):
                group.update(prox_type="ProxLasso", group_type="ElemGrouper", reg_lambda=run.knob)
        self.optimizer: Optimizer = import_module("torchao.prototype.pat.optim").PruneOptimizer(run.optimizer)

    def sparsity(self) -> float:
        """Fraction of the prunable weights that are zero."""
        return sparsity_of(self._parameters)

    def finish(self) -> dict[str, Any]:
        """The weights of the model are already shrunk."""
        group: dict[str, Any] = next(g for g in self.optimizer.param_groups if g.get("prune", True))
        return {"reg_lambda": self._lambda, "final_threshold": self._lambda * group["gamma"]}
