"""The metric an adaptive optimizer steps in: thresholds that are the proximal step there, not in the Euclidean one.

Adam moves θ by −η·m̂/h with h = √v̂ + ε: gradient descent in the metric H = diag(h). The proximal step of that metric,

    w = argmin_w ½·Σ h·(w − θ)² + λ·Σ φ(w),

has a threshold of its own for every weight, d = t/hᑫ: soft with d = λ/h where φ = |w|, hard with d = √(2λ/h) where
φ = [w ≠ 0]. So q is 1 for the soft threshold and ½ for the hard one (`ProximalMap.power`), and a weight is kept iff
|θ|·hᑫ > t. A growing threshold t takes Δd = Δt/hᑫ step by step: with Δt = μ·η a soft-thresholded step is ISTA in the
metric, w ← w − η·(m̂ + μ·sign w)/h, and comes to rest where the gradient is −μ·sign w: μ is the L1 coefficient in
units of the loss, whatever the optimizer divides by.

v is an estimate from few gradients, and one that is near 0 by chance makes its weight free to prune. The `damping` of
second-order methods (Levenberg, 1944) helps: h + δ·mean(h), the mean over the parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import NAdam, Optimizer, RMSprop
from torch.optim.adagrad import Adagrad
from torch.optim.adam import Adam

from neuroprune._numbers import check_number
from neuroprune.pruning.fan_in import Caps
from neuroprune.pruning.shards import WHOLE, Shards, local
from neuroprune.schedules import Learned, Schedule

State: TypeAlias = dict[str, Any]
#: Beyond it single precision knows no difference between weights any more.
MOST_DAMPING = 1e6


def has_metric(optimizer: Optimizer) -> bool:
    """Whether it divides its steps by something that `metric` knows."""
    return isinstance(optimizer, (Adam, NAdam, RMSprop, Adagrad))


@dataclass(frozen=True)
class Preconditioner:
    """Thresholds of single weights in the optimizer's own metric, d = t/hᑫ: see `neuroprune.pruning.metric`.

    It reads what the optimizer keeps, and costs a second copy of the weights: their thresholds.

    Args:
        damping: δ ≥ 0, what is added to h, as a share of its mean over the parameter. With 0, μ is exactly the L1
            coefficient in units of the loss; 1 ranks weights more reliably.

    Raises:
        ValueError: a damping that is negative, not finite, or above a million.
    """

    damping: float = 0.0

    def __post_init__(self) -> None:
        if (found := check_number(self, "damping", self.damping)) > MOST_DAMPING:
            raise ValueError(
                f"Preconditioner: damping must be at most {MOST_DAMPING:g}, got {found:g}; so large a one makes"
                " the metric the same for all weights of a parameter: leave precondition out instead"
            )

    def check(self, optimizer: Optimizer, schedule: Schedule, caps: Caps | None) -> None:
        """Refuse what has no metric, or no thresholds that could be scaled by one.

        Raises:
            ValueError: as said.
        """
        if not has_metric(optimizer):
            raise ValueError(
                "SoftThresholdPruner: preconditioned thresholds are scaled by what Adam, AdamW, NAdam, RMSprop or"
                f" Adagrad divide their steps by, and {type(optimizer).__name__} is none of them; use one of these, or"
                " leave precondition out"
            )
        if isinstance(schedule, Learned) or schedule.initial_threshold > 0:
            raise ValueError(
                f"SoftThresholdPruner: {type(schedule).__name__} has thresholds before the first step, when the"
                " optimizer has no metric to scale them by yet; use a schedule that starts at 0, such as LATS or"
                " SparsityRamp, or leave precondition out"
            )
        if caps is not None and not schedule.ranked:
            raise ValueError(
                f"SoftThresholdPruner: preconditioned thresholds that grow, as those of {type(schedule).__name__},"
                " cannot be raised for a limit on synapses; use SparsityRamp, or leave precondition out"
            )

    def h(self, optimizer: Optimizer, group: int, parameter: nn.Parameter, shards: Shards = WHOLE) -> Tensor:
        """h + δ·mean(h), of the parameter's shape or that of its rows here; a new tensor.

        Over shards the mean is taken of all of h, gathered, so that it is the same number as for a whole parameter.
        """
        h = metric(optimizer, parameter, optimizer.param_groups[group])
        return h if self.damping == 0 else h.add_(shards.whole(h, parameter).mean(), alpha=self.damping)


def has_stepped(optimizer: Optimizer, parameter: nn.Parameter) -> bool:
    """Whether the optimizer has moved a parameter at all: not before its first gradient."""
    state: State = optimizer.state.get(parameter, {})
    # Adagrad's state is there before the first step; of the others the number of steps may lie on a GPU, to wait for.
    return bool(state) and (not isinstance(optimizer, Adagrad) or float(state["step"]) > 0)


def metric(optimizer: Optimizer, parameter: nn.Parameter, group: State) -> Tensor:
    """h > 0, what the optimizer divided its last step of a parameter by, for what is here of it; a new tensor.

    √(v/(1 − β₂ᵗ)) + ε of Adam and AdamW (the largest v so far with `amsgrad`) and of NAdam (Kingma & Ba, ICLR 2015);
    √v + ε of RMSprop, v less the squared mean gradient where it is `centered`; √Σg² + ε of Adagrad (Duchi et al., JMLR
    2011).

    A parameter that has taken no step has had no gradient, v = 0.
    """
    state: State = optimizer.state.get(parameter, {})
    if not has_stepped(optimizer, parameter):
        h = torch.zeros_like(local(parameter))
    elif isinstance(optimizer, (Adam, NAdam)):
        correction = 1.0 - group["betas"][1] ** torch.as_tensor(state["step"], dtype=torch.float64)
        v = local(state["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"])
        h = v.sqrt().div_(correction**0.5)
    elif isinstance(optimizer, RMSprop):
        v = local(state["square_avg"])
        if group["centered"]:
            mean = local(state["grad_avg"])
            v = torch.addcmul(v, mean, mean, value=-1)
        h = v.sqrt()
    else:
        h = local(state["sum"]).sqrt()
    return h.add_(group["eps"]).to(local(parameter)).clamp_min_(torch.finfo(parameter.dtype).tiny)
