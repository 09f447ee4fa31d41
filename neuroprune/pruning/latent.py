"""The latent value behind one parameter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuroprune.pruning.maps import ProximalMap
from neuroprune.pruning.rounding import Grid
from neuroprune.pruning.shards import local
from neuroprune.schedules.learned import LearnedThreshold


class Latent:
    """θ of one parameter, and the storage that holds its weights w while the optimizer works on θ.

    Between steps the parameter holds w. Inside a step it holds θ: the two storages are swapped, nothing is copied. What
    the parameter looked like when it was left (version counter, storage, layout) tells whether someone wrote to it
    since.

    `threshold` is the one in force, a number or a tensor that broadcasts to θ; `learned` is what a learned threshold
    comes from, and `slope` is ∂L/∂d of the step being taken; `usual` is what `clip_pruned_` remembers; `away` says that
    the parameter is not pruned for now. Once frozen there is no θ any more: the optimizer works on
    w, and the mask zeroes what was pruned. With a `grid` the weights are rounded to it, w = Q(S_d(θ)), and θ stays also
    when frozen, w = Q(mask·θ). S_d stands for the `proximal` map here.

    Of a parameter in shards all of this is the shard that is here (`local`): it is what an optimizer's step moves, and
    what FSDP2 sends to other processes lies in the storage that is swapped.
    """

    __slots__ = (
        "_seen",
        "_weight",
        "away",
        "grid",
        "learned",
        "mask",
        "proximal",
        "slope",
        "theta",
        "threshold",
        "usual",
    )

    def __init__(self, parameter: nn.Parameter, proximal: ProximalMap, grid: Grid | None = None) -> None:
        self.proximal = proximal
        self.theta = local(parameter).detach().clone()
        self.threshold: float | Tensor = 0.0
        self.learned: LearnedThreshold | None = None
        self.slope = 0.0
        self.usual: Tensor | None = None
        self.away = False
        self.mask: Tensor | None = None
        self.grid = None if grid is None else grid.to(self.theta)
        self._weight = local(parameter).detach()
        self._see(parameter)

    @property
    def holds_theta(self) -> bool:
        """Whether the optimizer works on a latent value, and not on the weights themselves."""
        return self.mask is None or self.grid is not None

    def enter(self, parameter: nn.Parameter) -> None:
        """Put θ into the parameter, after adopting what was written to it from outside."""
        if not self.holds_theta:
            return
        self.adopt_if_written(parameter)
        part = local(parameter)
        self._weight = part.detach()
        part.data = self.theta

    def leave(self, parameter: nn.Parameter, *, unchanged: bool = False) -> None:
        """Put w = S_d(θ) back into the parameter, in the storage it had; w as it was if the step was skipped."""
        if self.holds_theta:
            local(parameter).data = self._weight
        if unchanged:
            self._see(parameter)
        else:
            self.write(parameter)

    def write(self, parameter: nn.Parameter) -> None:
        """w ← S_d(θ), or w ← mask·w once frozen: in place, nothing allocated; one kernel for the soft and the hard map.

        Four more, in place, where the weights are rounded to a grid.
        """
        part = local(parameter)
        if self.mask is None:
            self._apply(self.theta, part)
        elif self.grid is None:
            self.mask = self.mask.to(part.device)
            part.mul_(self.mask)
        else:
            self._apply(self.theta.mul_(self.mask), part)
        self._see(parameter)

    def freeze(self, parameter: nn.Parameter) -> None:
        """Keep the zeros the weights have now, and let the others train on unshrunk.

        What is zero only because it was rounded to zero may still come back.
        """
        part = local(parameter).detach()
        if self.grid is None:
            self.mask = part != 0
            self.theta = part.new_empty(0)
        else:
            self.proximal.write(self.theta, self.threshold, part)
            self.theta.copy_(part)
            self.mask = self.theta != 0
            self.write(parameter)

    def saved(self, parameter: nn.Parameter) -> Tensor:
        """What restores this value: θ, or w where it is no more."""
        return self.theta if self.holds_theta else local(parameter).detach()

    def restore(
        self,
        parameter: nn.Parameter,
        saved: Tensor,
        mask: Tensor | None,
        threshold: float | Tensor,
        grid: Grid | None = None,
    ) -> None:
        """Take over what `saved` gave, and write the weights it implies; those that are not pruned for now stay."""
        part = local(parameter).detach()
        self.mask = None if mask is None else mask.to(part.device, torch.bool, copy=True)
        self.grid = None if grid is None else grid.to(part)
        if self.holds_theta:
            self.theta = saved.to(part.device, part.dtype, copy=True)
        else:
            self.theta = part.new_empty(0)
            part.copy_(saved)
        if isinstance(threshold, Tensor):
            threshold = threshold.to(part.device, part.dtype, copy=True)
        self.threshold = threshold
        if self.away and self.mask is None:
            self._see(parameter)
        else:
            self.write(parameter)

    def gives(self, parameter: nn.Parameter) -> bool:
        """Whether θ, under the threshold in force, gives the weights the parameter holds."""
        part = local(parameter).detach()
        if self.theta.shape != part.shape or self.theta.dtype != part.dtype:
            return False
        return torch.equal(self._apply(self.theta, torch.empty_like(self.theta)), part)

    def adopt_if_written(self, parameter: nn.Parameter) -> None:
        """Adopt the parameter's weights if someone else wrote them."""
        if self.holds_theta and _look(parameter) != self._seen:
            self.adopt(parameter)

    def adopt(self, parameter: nn.Parameter) -> None:
        """Move θ to the nearest value that gives the parameter's present weights, on its device and in its dtype.

        With a grid: θ stays where it gives them already, and gives them before rounding elsewhere.
        """
        if not self.holds_theta:
            return
        weight = local(parameter).detach()
        if self.theta.shape != weight.shape:
            raise RuntimeError(
                f"SoftThresholdPruner: a parameter changed its shape from {tuple(self.theta.shape)} to"
                f" {tuple(weight.shape)} since the last step; build a new optimizer and pruner for the new model"
            )
        if isinstance(self.threshold, Tensor):
            self.threshold = self.threshold.to(weight)
        near = self.theta.to(weight)
        found = weight.clone() if self.mask is not None else self.proximal.nearest(weight, self.threshold, near)
        if self.grid is not None:
            self.grid = self.grid.to(weight)
            self.mask = None if self.mask is None else self.mask.to(weight.device)
            found = torch.where(self._apply(near, torch.empty_like(near)) == weight, near, found)
        self.theta = found
        self._see(parameter)

    def _apply(self, theta: Tensor, out: Tensor) -> Tensor:
        """out ← S_d(θ), or θ once frozen, rounded."""
        if self.mask is None:
            self.proximal.write(theta, self.threshold, out)
        else:
            out.copy_(theta)
        return out if self.grid is None else self.grid.round_(out)

    def _see(self, parameter: nn.Parameter) -> None:
        self._seen = _look(parameter)


def _look(parameter: nn.Parameter) -> tuple[object, ...]:
    """What changes when a parameter is written to, moved, cast or given another tensor's data."""
    part = local(parameter)  # of one in shards both count writes: its own by name, and those to the storage here
    return parameter._version, part._version, part.data_ptr(), part.dtype, part.shape, part.stride()
