"""A network on a Xylo core, run for any number of samples, and told apart into its populations again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from hw_targets.ir.dynamics import Losses
from hw_targets.ir.network import ChipNetwork
from hw_targets.targets.xylo.dynamics.engine import run
from hw_targets.targets.xylo.layout import laid_out, specification
from hw_targets.targets.xylo.specification import Ints


class Core:
    """A network on a core, ready to run."""

    def __init__(self, network: ChipNetwork) -> None:
        """Raises InvalidNetwork, as `specification`."""
        self.layout, self.specification = laid_out(network), specification(network)
        self._network = network

    def chip_inputs(self, shown: Tensor) -> Ints:
        """(T, N, *shape) as the chip gets them: (T + steps_more, N, inputs), nothing after the last step."""
        flat = shown.reshape(*shown.shape[:2], -1).cpu().numpy()
        inputs = np.zeros((len(flat) + self.layout.steps_more, *flat.shape[1:]), np.uint8)
        inputs[: len(flat)] = flat
        return inputs

    def run(self, shown: Tensor, losses: Mapping[str, Losses]) -> Mapping[str, Tensor]:
        """See `Whole.run`."""
        found, sent = run(self.specification, self.chip_inputs(shown)), dict[str, Tensor]()
        for name, late in self.layout.late.items():
            population, steps = self._network[name], slice(late, late + len(shown))
            if name == self.layout.output:
                spikes, held = found.spikes_out, found.held[:, self.layout.hidden :]
            else:
                first = self.layout.first[name]
                spikes = found.spikes[:, :, first : first + population.size]
                held = found.held[:, first : first + population.size]
            spikes = spikes[steps].reshape(len(shown), shown.shape[1], *population.shape)
            sent[name] = torch.from_numpy(np.ascontiguousarray(spikes)).to(shown.device)
            if held.any():
                neurons = held.any(0).reshape(population.shape)
                losses[name].add(np.array([0, held.sum()]), neurons, held.any(1))
        return sent
