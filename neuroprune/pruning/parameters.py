"""The parameters a pruner works on, with their latent values, their groups' options and the thresholds in force."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuroprune.pruning.checks import check_flat, claim, is_prunable
from neuroprune.pruning.costs import Costs
from neuroprune.pruning.fan_in import Caps
from neuroprune.pruning.latent import Latent
from neuroprune.pruning.magnitudes import distance
from neuroprune.pruning.maps import ProximalMap
from neuroprune.pruning.metric import Preconditioner
from neuroprune.pruning.options import GroupOptions, is_true
from neuroprune.pruning.owners import check_owners
from neuroprune.pruning.rounding import Grid
from neuroprune.pruning.shards import WHOLE, Shards, local, shards_of
from neuroprune.pruning.thresholds import Pruned, Thresholds
from neuroprune.schedules import Learned, Schedule


class PrunedParameters:
    """Prunable parameters of an optimizer's groups, in the optimizer's order.

    Args:
        optimizer: whose parameters.
        owner: the pruner that holds them.
        schedule: says what thresholds start from.
        proximal: how latent values and thresholds become weights.
        caps: limits on the synapses per neuron.
        rounding: grids of those that are rounded. Those among them that are never pruned, such as biases, are `rounded`
            alone: their threshold is 0.
        precondition: how thresholds are scaled by the optimizer's metric.
        costs: of the weights, by which thresholds are scaled, too.
        shards: of the parameters.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        owner: object,
        schedule: Schedule,
        proximal: ProximalMap,
        caps: Caps | None,
        rounding: Mapping[nn.Parameter, Grid],
        precondition: Preconditioner | None = None,
        costs: Costs | None = None,
        shards: Shards = WHOLE,
    ) -> None:
        self.latents: dict[nn.Parameter, Latent] = {}
        self.rounded: dict[nn.Parameter, Latent] = {}
        self._rounding = rounding
        self._optimizer = optimizer
        self._owner = owner
        self._schedule = schedule
        self.proximal = proximal
        self.precondition = precondition
        self.costs = costs
        self.shards = shards
        self._thresholds = Thresholds(optimizer, schedule, proximal, caps, precondition, costs, shards)
        self._options = GroupOptions(optimizer, caps, has_grids=bool(rounding))

    def __iter__(self) -> Iterator[tuple[int, nn.Parameter, Latent]]:
        """Group index, parameter and latent value of all that are pruned now."""
        for index, parameter, latent in self.known():
            if self._options.is_on(index, parameter):
                yield index, parameter, latent

    def known(self) -> Iterator[tuple[int, nn.Parameter, Latent]]:
        """The same, with those that have been switched off, by their group or as they no longer require gradients."""
        for index, group in enumerate(self._optimizer.param_groups):
            for parameter in group["params"]:
                if parameter in self.latents:
                    yield index, parameter, self.latents[parameter]

    @property
    def given(self) -> tuple[Caps | None, Mapping[nn.Parameter, Grid]]:
        """The limits on synapses, and the grids, as they were given."""
        return self._options.caps, self._rounding

    def held(self) -> Iterator[tuple[nn.Parameter, Latent]]:
        """All that the optimizer moves through a latent value now: those that are pruned, and those only rounded."""
        yield from ((parameter, latent) for _, parameter, latent in self)
        yield from self.rounded.items()

    def everything(self) -> dict[nn.Parameter, Latent]:
        """All latent values, of pruned and of rounded parameters, switched off or not."""
        return {**self.latents, **self.rounded}

    def positions(self) -> dict[nn.Parameter, int]:
        """Index of every parameter of the optimizer, counted over all groups as its state_dict does."""
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        return {p: index for index, p in enumerate(parameters)}

    def first_group(self) -> int:
        """Index of the first group with a pruned parameter."""
        return next((index for index, _, _ in self), 0)

    def register(self, thresholds: Sequence[float], step: int, old_groups: int) -> None:
        """Give every new prunable parameter a latent value; `thresholds` are the groups'.

        What joins one of the first `old_groups` groups after the first step, or comes back to it, takes the latent
        value that gives its present weights under the threshold of the day. Nothing is written before all are found to
        be in order and free.

        Raises:
            ValueError: a parameter is not in order, not free, or cannot join; or one is the optimizer's no longer.
        """
        self._check_present(old_groups)
        self._come_back(thresholds, step)
        new: list[tuple[int, nn.Parameter, Latent]] = []
        only_rounded: list[nn.Parameter] = []
        for index, group in enumerate(self._optimizer.param_groups):
            for parameter in group["params"]:
                self._options.note(index, parameter)
                if parameter in self.latents or parameter in self.rounded:
                    continue
                is_on = self._options.is_on(index, parameter)
                if is_on:
                    check_flat(parameter)
                grid, pruned = self._rounding.get(parameter), is_on and is_prunable(parameter)
                if grid is None and not pruned:
                    continue
                self._options.max_sparsity(index, parameter)
                self.shards.check(parameter)
                self._options.fan_out(index, parameter)
                claim(parameter, self._owner)
                if pruned and step > 0:
                    self._check_joining(index, parameter, thresholds[index], step, old_groups)
                if pruned:
                    self.latents[parameter] = Latent(parameter, self.proximal, grid)
                    new.append((index, parameter, self.latents[parameter]))
                else:
                    self.rounded[parameter] = Latent(parameter, self.proximal, grid)
                    only_rounded.append(parameter)
        if new:
            check_owners((parameter for _, parameter, _ in new), sharded=self.shards.sharded)
            self._check_reach()
        for parameter in only_rounded:
            self.rounded[parameter].write(parameter)
        for index, parameter, latent in new:
            if isinstance(self._schedule, Learned):
                latent.learned = self._schedule.start
            if step > 0 and index < old_groups and latent.learned is None:
                self._join(index, parameter, latent, thresholds[index])
                continue
            self._thresholds.start(self._pruned(index, parameter, latent), thresholds[index])
            if latent.grid is not None or not isinstance(latent.threshold, float) or latent.threshold > 0:
                latent.write(parameter)

    def _check_present(self, old_groups: int) -> None:
        """Refuse to go on where groups or parameters were taken from the optimizer.

        Raises:
            ValueError: as said.
        """
        groups, positions = len(self._optimizer.param_groups), self.positions()
        gone = [tuple(p.shape) for p in self.everything() if p not in positions]
        if gone or groups < old_groups:
            for parameter in positions:
                self.shards.check(parameter)  # if others took their places as they were sharded, that is the reason
            what = f"{len(gone)} pruned parameters, of shapes {gone}," if gone else f"{old_groups - groups} groups"
            raise ValueError(
                f"SoftThresholdPruner: {what} are no longer the optimizer's; put them back (a group that says"
                " prune=False is left alone, and so is what does not require gradients), or finalize() the pruner and"
                " attach a new one"
            )

    def _come_back(self, thresholds: Sequence[float], step: int) -> None:
        """Latent values of parameters that were switched off, and are on again, follow what happened meanwhile."""
        back: list[tuple[int, nn.Parameter, Latent]] = []
        for index, parameter, latent in self.known():
            if not self._options.is_on(index, parameter):
                latent.away = True
            elif latent.away and latent.mask is None and latent.learned is None and self._differs(parameter, latent):
                self._check_gap(parameter, latent.threshold, step)
                back.append((index, parameter, latent))
            else:
                latent.away = False
        for index, parameter, latent in back:
            self._join(index, parameter, latent, thresholds[index])
            latent.away = False

    def _join(self, index: int, parameter: nn.Parameter, latent: Latent, threshold: float) -> None:
        """Give a parameter the latent value of its present weights; the weights stay as they are."""
        if self._thresholds.scaled:  # under the thresholds it has, 0 if it is new
            latent.adopt(parameter)
            return
        latent.threshold = threshold
        latent.adopt(parameter)
        self._thresholds.start(self._pruned(index, parameter, latent), threshold)
        if latent.threshold != threshold:
            latent.theta = local(parameter).detach().clone()
            latent.adopt(parameter)

    def _check_joining(self, index: int, parameter: nn.Parameter, threshold: float, step: int, old_groups: int) -> None:
        """Refuse a parameter that could only join in mid-run by losing weights at a stroke.

        Raises:
            ValueError: as said.
        """
        reason = self._schedule.no_joining
        limit = self._options.fan_out(index, parameter)
        if isinstance(self._thresholds.limited(parameter, limit, local(parameter).detach(), 0.0, step), Tensor):
            reason = "a limit on fan-in or fan-out would cut it"
        if reason is not None:
            raise ValueError(
                f"SoftThresholdPruner: a parameter of shape {tuple(parameter.shape)} joins at step {step}, by its group"
                f" or as it requires gradients now, and would lose weights at a stroke: {reason}; let it train from the"
                " first step on, or leave it out with a group that says prune=False"
            )
        if index < old_groups and not isinstance(self._schedule, Learned) and not self._thresholds.scaled:
            self._check_gap(parameter, threshold, step)

    def _check_gap(self, parameter: nn.Parameter, threshold: float | Tensor, step: int) -> None:
        reached = self.proximal.reaches(local(parameter).detach(), threshold)
        lost = self.shards.sum(int(torch.count_nonzero(~reached)))
        if lost:
            raise ValueError(
                f"SoftThresholdPruner: a parameter of shape {tuple(parameter.shape)} requires gradients again at step"
                f" {step}, where {self.proximal!r} would zero {lost} of its {parameter.numel()} weights at a stroke;"
                " let it train from the first step on, give it with optimizer.add_param_group, where a threshold of its"
                " own starts, or leave it out with a group that says prune=False"
            )

    def _check_reach(self) -> None:
        """A wanted sparsity must be possible under the caps.

        Raises:
            ValueError: it is not.
        """
        wanted = self._schedule.target_sparsity
        size = sum(p.numel() for _, p, _ in self)
        if wanted is None or size == 0:
            return
        most = sum(math.floor(self._options.max_sparsity(index, p) * p.numel()) for index, p, _ in self) / size
        if most + 1.0 / size < wanted:  # a sparsity is only ever reached to a weight
            raise ValueError(
                f"SoftThresholdPruner: target_sparsity {wanted} is out of reach, max_sparsity of the parameter groups"
                f" leaves at most {most:.6g}; raise those or lower the target"
            )

    def put_in_force(self, thresholds: Sequence[float], step: int, before: Sequence[float], *, renewed: bool) -> None:
        """Set the threshold of every parameter from its group's, before optimizer step number `step`.

        `before` are the groups' thresholds until now; `renewed` says that the schedule looked at the weights.
        """
        # Also of those switched off just now: what they become meanwhile is adopted under the threshold of its day.
        for index, parameter, latent in self.known():
            if latent.mask is None:
                self._thresholds.put_in_force(
                    self._pruned(index, parameter, latent),
                    thresholds[index],
                    step,
                    growth=thresholds[index] - before[index],
                    renewed=renewed,
                )

    def distance(self, thresholds: Sequence[float], sparsity: float, pace: Sequence[float]) -> float:
        """See `View.distance`."""
        layers = [
            self._thresholds.layer(self._pruned(index, parameter, latent), thresholds[index], pace[index])
            for index, parameter, latent in self
            if latent.mask is None
        ]
        return distance(layers, sparsity, self.shards)

    def quantile(self, sparsity: float, step: int) -> float:
        """See `View.quantile`; `step` is the optimizer step before which the threshold will be in force."""
        layers = [
            self._thresholds.ranked_layer(self._pruned(index, parameter, latent), step)
            for index, parameter, latent in self
            if latent.mask is None
        ]
        return max(0.0, distance(layers, sparsity, self.shards)) if layers else 0.0

    def mean_learned(self, index: int) -> float | None:
        """Mean of the learned thresholds of a group, weighted by the parameters' sizes; None without any."""
        found = [(p.numel(), latent.learned.threshold) for i, p, latent in self if i == index and latent.learned]
        return sum(n * d for n, d in found) / sum(n for n, _ in found) if found else None

    def _differs(self, parameter: nn.Parameter, latent: Latent) -> bool:
        return self.shards.any(not latent.gives(parameter))

    def _pruned(self, index: int, parameter: nn.Parameter, latent: Latent) -> Pruned:
        return Pruned(
            index,
            parameter,
            latent,
            self._options.max_sparsity(index, parameter),
            self._options.fan_out(index, parameter),
        )


def first_shards(optimizer: Optimizer) -> Shards:
    """The shards of the first parameter that is to be pruned; all others must have the same.

    Raises:
        ValueError: it is in shards of a kind that cannot be pruned.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if is_prunable(parameter) and is_true(group.get("prune", True)):
                return shards_of(parameter)
    return WHOLE
