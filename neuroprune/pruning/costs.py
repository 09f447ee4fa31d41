"""What a weight costs on a chip, as the weight of its penalty: connections that are used often are pruned first.

Soft threshold pruning minimises L(w) + μ‖w‖₁, in which every connection costs the same. On a neuromorphic chip it costs
a synaptic operation whenever its source fires, at every position where it is used, so that the problem is

    minimise  L(w) + μ·Σ c_i·φ(w_i),

the weighted L1 penalty of the adaptive lasso (Zou, JASA 2006) for φ = |w|. Its proximal step has the threshold
d_i = d·c_i for the soft map and d·√c_i for the hard one: a weight is kept iff |θ|/c^q > d, with q = 1 and ½
(`ProximalMap.power`).
c = 1 throughout is the problem as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from neuroprune._numbers import check_number, check_share, check_whole
from neuroprune.synops.inputs import beside_checkpoints, check_model, trained_on
from neuroprune.synops.loss import LAYERS


class Costs(Protocol):
    """Costs c > 0 of every weight, their mean over all weights 1."""

    def of(self, parameter: nn.Parameter) -> Tensor:
        """c of a parameter's weights, which broadcasts to it; 1 for one that nothing is known of."""

    def advance(self) -> None:
        """A step of the optimizer is over."""

    def saved(self, parameters: Mapping[nn.Parameter, int]) -> dict[int, Tensor]:
        """What is remembered, by the index of the parameter."""

    def restore(self, state: Mapping[int, Tensor], parameters: Mapping[nn.Parameter, int]) -> None:
        """Take over what `saved` gave."""


class FixedCosts:
    """Costs that are given once and do not change, such as the memory that a chip takes for a weight.

    Args:
        costs: by parameter, c ≥ 0 that broadcasts to it. They are used as they are; so that μ keeps its meaning, let
            their mean be 1.

    Raises:
        ValueError: a cost that is negative or not finite, or does not broadcast.
    """

    def __init__(self, costs: Mapping[nn.Parameter, Tensor]) -> None:
        for parameter, cost in costs.items():
            _check(cost, parameter)
        self._costs = {parameter: cost.detach().clone() for parameter, cost in costs.items()}

    def of(self, parameter: nn.Parameter) -> Tensor:
        """As given."""
        found = self._costs.get(parameter)
        return torch.ones((), dtype=parameter.dtype, device=parameter.device) if found is None else found.to(parameter)

    def advance(self) -> None:
        """Nothing changes."""

    def saved(self, parameters: Mapping[nn.Parameter, int]) -> dict[int, Tensor]:
        """As given."""
        return {parameters[p]: cost for p, cost in self._costs.items() if p in parameters}

    def restore(self, state: Mapping[int, Tensor], parameters: Mapping[nn.Parameter, int]) -> None:
        """Take over what `saved` gave."""
        by_index = {index: p for p, index in parameters.items()}
        self._costs = {by_index[int(index)]: cost for index, cost in state.items()}


class SynapticCosts:
    """Synaptic operations of every weight, measured while the model trains, over their mean.

        costs = SynapticCosts(model)
        pruner = prune_to(0.9, optimizer, steps=steps, costs=costs)
        ...                      # train as before
        pruner.finalize(); costs.close()

    A weight's operations are the events that meet it: Σ over samples, steps and positions of [x ≠ 0], which is
    ∂(Σ layer([x ≠ 0]))/∂w, the same for every output channel. They are measured in the forward passes of training mode
    of every `every`-th optimizer step, and averaged over about 1/(1 − `momentum`) measurements. Over several processes
    (`torch.distributed`) they are summed, so that all of them prune alike.

    Args:
        model: has the layers: `torch.nn.Linear`, `Conv1d` to `Conv3d` and what derives from them, as SpikingJelly's do,
            with inputs (N, …) or (T, N, …). `uncosted` names other modules with weights, which cost the mean. So does
            a layer that reads the image, real values, and has no synaptic operations (see `count_synops`).
        every: optimizer steps from one measurement to the next.
        momentum: of the running average, in [0, 1).
        base: the share of the cost that every weight has, used or not: c = base + (1 − base)·operations/mean. It is
            what a chip's memory takes; without any, a weight whose source never fires would be free.

    Raises:
        TypeError: the model is no module.
        ValueError: values outside their range.
    """

    def __init__(self, model: nn.Module, *, every: int = 10, momentum: float = 0.9, base: float = 0.1) -> None:
        check_model("SynapticCosts", model)
        check_whole(self, "every", every)
        if check_number(self, "momentum", momentum) >= 1:
            raise ValueError(f"SynapticCosts: momentum must lie in 0 … 1, 1 excluded, got {momentum}")
        check_share(self, "base", base)
        self.every, self.momentum, self.base = every, momentum, base
        self._step = 0
        self._seen: dict[nn.Parameter, Tensor] = {}
        self._mean: dict[nn.Parameter, Tensor] = {}
        self._costs: dict[nn.Parameter, Tensor] = {}
        self._handles: list[Any] = []
        found, uncosted = set[nn.Parameter](), list[str]()
        for name, module in model.named_modules():
            weight = module._parameters.get("weight")
            if isinstance(module, LAYERS) and weight is not None:
                self._handles.append(module.register_forward_pre_hook(self._see, with_kwargs=True))
                found.add(weight)
            elif any(p.dim() >= 2 for p in module.parameters(recurse=False)):
                uncosted.append(name)
        self.uncosted = tuple(uncosted)
        self._parameters = found

    @property
    def measured(self) -> bool:
        """Whether there is anything to go by yet; until then c is 1."""
        return bool(self._costs)

    def of(self, parameter: nn.Parameter) -> Tensor:
        """c of a parameter's weights: (1, in, …), or of its full shape where channels are in groups."""
        found = self._costs.get(parameter)
        return torch.ones((), dtype=parameter.dtype, device=parameter.device) if found is None else found.to(parameter)

    @torch.no_grad()
    def advance(self) -> None:
        """What was seen since the last step goes into the average."""
        if self._is_due() and self._seen:
            for parameter, seen in _over_processes(self._seen).items():
                before = self._mean.get(parameter)
                self._mean[parameter] = seen if before is None else torch.lerp(seen, before, self.momentum)
            self._costs = self._normalised()
        self._seen = {}
        self._step += 1

    def close(self) -> None:
        """Measure no more; the costs stay."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def saved(self, parameters: Mapping[nn.Parameter, int]) -> dict[int, Tensor]:
        """The running averages, by the index of the parameter, and the number of steps as −1."""
        found = {parameters[p]: mean for p, mean in self._mean.items() if p in parameters}
        return {**found, -1: torch.tensor(self._step)}

    def restore(self, state: Mapping[int, Tensor], parameters: Mapping[nn.Parameter, int]) -> None:
        """Take over what `saved` gave."""
        by_index = {index: p for p, index in parameters.items()}
        values = {int(index): value for index, value in state.items()}
        self._step = int(values.pop(-1))
        self._mean = {by_index[index]: value.to(by_index[index].device) for index, value in values.items()}
        self._costs = self._normalised()
        self._seen = {}

    def _is_due(self) -> bool:
        return self._step % self.every == 0

    def _normalised(self) -> dict[nn.Parameter, Tensor]:
        if not self._mean:
            return {}
        used = sum(float((mean * (p.numel() / mean.numel())).sum()) for p, mean in self._mean.items())
        average = used / sum(p.numel() for p in self._mean)
        if average == 0:  # nothing fires at all: nothing tells weights apart
            return {}
        return {p: self.base + (1 - self.base) * mean / average for p, mean in self._mean.items()}

    def _see(self, layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        weight = layer._parameters["weight"]
        if weight is None or not self._is_due() or (values := trained_on(layer, arguments, named)) is None:
            return
        with beside_checkpoints():
            seen = operations(layer, values)
        before = self._seen.get(weight)
        self._seen[weight] = seen if before is None else before + seen


def operations(layer: nn.Module, values: Tensor) -> Tensor:
    """Events that meet each weight of a layer, Σ [x ≠ 0] over samples, steps and positions.

    Args:
        layer: an `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`.
        values: its input, of any number of leading axes.

    Returns:
        (1, in, …) in single precision; (out, in/groups, …) for a convolution in several groups.

    Raises:
        TypeError: another layer.
    """
    events = (values.detach() != 0).float()
    if isinstance(layer, nn.Linear):
        return events.reshape(-1, events.shape[-1]).sum(0, keepdim=True)
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        raise TypeError(f"operations: expected Linear, Conv1d, Conv2d or Conv3d, got {type(layer).__name__}")
    events = events.reshape(-1, *events.shape[-(layer.weight.dim() - 1) :])
    # One output channel a group stands for all: what meets their weights is the same.
    shape = (layer.groups, *layer.weight.shape[1:])
    with torch.enable_grad():
        one = torch.zeros(shape, device=events.device, requires_grad=True)
        total = _convolved(layer, events, one).sum()
    (found,) = torch.autograd.grad(total, one)
    return found if layer.groups == 1 else found.repeat_interleave(len(layer.weight) // layer.groups, 0)


def _convolved(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, events: Tensor, weight: Tensor) -> Tensor:
    """What the layer computes with another weight and no bias, its padding included."""
    result: Tensor = layer._conv_forward(events, weight, None)
    return result


def _over_processes(seen: dict[nn.Parameter, Tensor]) -> dict[nn.Parameter, Tensor]:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return seen
    for value in seen.values():
        distributed.all_reduce(value)
    return seen


def _check(cost: Tensor, parameter: nn.Parameter) -> None:
    fits = cost.dim() <= parameter.dim() and all(
        n in (1, m) for n, m in zip(reversed(cost.shape), reversed(parameter.shape), strict=False)
    )
    if not fits or not bool((cost.isfinite() & (cost > 0)).all()):
        raise ValueError(
            f"FixedCosts: a cost of shape {tuple(cost.shape)}, from {float(cost.min()):.4g} to {float(cost.max()):.4g},"
            f" for a parameter of shape {tuple(parameter.shape)}; costs are finite, above 0, and broadcast to it"
        )
