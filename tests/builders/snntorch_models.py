"""snnTorch models of any neurons, and what they send when they run themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import snntorch as snn
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprune.frameworks import framework_of


def heaviside(x: Tensor) -> Tensor:
    """In double precision, where snnTorch's own surrogates send float32; so torch's rounding cannot tip a threshold."""
    return (x > 0).to(x.dtype)


def tuple_of(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


class Loop(nn.Module):
    """Layers, each followed by neurons, in a loop over the steps of (T, N, …), or `steps` times over one (N, …).

    `finish` makes what it returns of the lists of the last neurons' spikes and states.
    """

    def __init__(
        self,
        layers: list[nn.Module],
        neurons: list[nn.Module],
        *,
        steps: int | None = None,
        finish: Callable[[list[Tensor], list[tuple[Tensor, ...]]], Any] | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.neurons = nn.ModuleList(layers), nn.ModuleList(neurons)
        self.steps = steps
        self.finish = finish or (lambda spikes, _: torch.stack(spikes))

    def forward(self, x: Tensor) -> Any:
        """States of recurrent neurons begin with their own spikes."""
        states: list[tuple[Tensor, ...]] = [tuple_of(n.reset_mem()) for n in self.neurons]  # type: ignore[operator]
        spikes, potentials = [], []
        for step in range(len(x) if self.steps is None else self.steps):
            sent = x if self.steps is not None else x[step]
            for index, (layer, neurons) in enumerate(zip(self.layers, self.neurons, strict=True)):
                sent, *rest = neurons(layer(sent), *states[index])
                recurrent = isinstance(neurons, (snn.RLeaky, snn.RSynaptic))
                states[index] = (sent, *rest) if recurrent else tuple(rest)
            spikes.append(sent)
            potentials.append(states[-1])
        return self.finish(spikes, potentials)


def own_spikes(model: nn.Module, x: Tensor) -> dict[str, NDArray[np.int64]]:
    """(T, N, …) of every neuron module, from the model's own run; one step per call where it does not loop."""
    framework = framework_of(model)
    assert framework is not None
    seen: dict[str, list[Tensor]] = {}
    handles = [
        m.register_forward_hook(
            lambda _m, _i, out, name=name: seen.setdefault(name, []).append(out[0] if isinstance(out, tuple) else out)
        )
        for name, m in model.named_modules()
        if isinstance(m, snn.SpikingNeuron)
    ]
    framework.reset(model)
    with torch.no_grad():
        if framework.time_axis(model) is None:
            for step in x:
                model(step)
        else:
            model(x)
    for handle in handles:
        handle.remove()
    return {name: torch.stack(spikes).long().numpy() for name, spikes in seen.items()}
