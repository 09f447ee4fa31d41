"""Weights and biases no larger than a population's spikes need, so that a few huge ones do not set its scale.

A batch-norm in evaluation mode multiplies a channel that was nearly silent while training by up to 1/√eps ≈ 316;
pruning silences many. Such weights and biases are far above their threshold, and most of that changes no spike:

- a channel that never fires, or fires in every step, whatever arrives, does so with smaller numbers too;
- a weight whose one spike fires the neuron, whatever else arrives, need not be larger than that takes;
- a weight whose one spike keeps the neuron silent for the rest of the sample need not be further below zero either.

All three are bounds over every input that can occur and over the `time_steps` of a sample that starts from cleared
states; they ask of no data. Every spike of the result equals the given network's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hw_targets.ir.network import LIF, Network, Op, Population, Synapses

Mask = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.float64]

#: What single-precision sums may be off by, relative to the sum of what is added.
TOLERANCE = 1e-6
#: Each bound of weights on one side loosens the other's.
ROUNDS = 3


def saturated(network: Network) -> Network:
    """The network with the weights and biases of firing populations no larger than their spikes need.

    Constant channels are scaled down only where they hold a population's largest weight or bias. Readouts, populations
    with weights trained in integers, and an input layer's own neurons stay as they are.
    """
    biases: dict[str, Reals | None] = {}
    ops: dict[tuple[str, int, float], Op] = {}
    for population in network.populations:
        layer = _Layer.of(network, population)
        if layer is None or not layer.may_be_too_large:
            continue
        layer = layer.with_constants_scaled()
        for _ in range(ROUNDS):
            layer = layer.with_excitation_capped().with_inhibition_capped()
        biases[population.name] = None if population.bias is None else layer.bias.reshape(population.bias.shape)
        for s, weight in zip(network.incoming(population.name), layer.weights, strict=True):
            ops.setdefault(_key(network, s), replace(s.op, weight=weight.reshape(s.op.weight.shape)))
    populations = (replace(p, bias=biases[p.name]) if p.name in biases else p for p in network.populations)
    synapses = (replace(s, op=ops.get(_key(network, s), s.op)) for s in network.synapses)
    return replace(network, populations=tuple(populations), synapses=tuple(synapses))


@dataclass(frozen=True, eq=False)
class _Layer:
    """A firing population.

    `weights` has an array (rows, columns) per group of synapses, a row per output of its op, in potential per 1.0 of
    input; `most` and `least` are the largest value each group's source sends, and the smallest above zero. `bias` is
    (units, neurons of a unit that have biases of their own, or 1); a unit is a channel, and has one row or several.
    """

    neuron: LIF
    steps: int
    weights: tuple[Reals, ...]
    most: tuple[float, ...]
    least: tuple[float, ...]
    bias: Reals

    @classmethod
    def of(cls, network: Network, population: Population) -> _Layer | None:
        """None for populations that are left alone."""
        neuron, incoming = population.lif, network.incoming(population.name)
        if (
            neuron is None
            or not neuron.resets_to_zero
            or neuron.unit
            or neuron.v_threshold <= 0
            or not 0 <= neuron.v_decay <= 1
            or neuron.beyond_one_leak
            or neuron.bias_lasts
        ):
            return None
        rows, units = {len(s.op.weight) for s in incoming}, population.shape[0]
        if any(s.immediate for s in incoming) or len(rows) != 1 or max(rows) % units:
            return None
        return cls(
            neuron,
            network.time_steps,
            tuple(s.op.weight.reshape(len(s.op.weight), -1).astype(np.float64) for s in incoming),
            tuple(_largest_real(network, s) for s in incoming),
            tuple(1.0 / network[s.source].neuron.unit_sent for s in incoming),
            (np.zeros(units) if population.bias is None else population.bias.astype(np.float64)).reshape(units, -1),
        )

    @property
    def may_be_too_large(self) -> bool:
        """Whether anything reaches beyond the threshold at all."""
        level = self.neuron.v_threshold
        return bool(np.abs(self.bias).max() > 2 * level or self._heaviest().max() > level)

    def with_constants_scaled(self) -> _Layer:
        """Channels that never fire, or always, scaled to the range of the others, or of the threshold."""
        never, always = self._constant()
        heaviest, bias = self._by_unit(self._heaviest()).max(1), np.abs(self.bias).max(1)
        others, level = ~(never | always), self.neuron.v_threshold
        weight_room = float(heaviest[others].max(initial=0.0)) or level
        bias_room = float(bias[others].max(initial=2 * level))
        chosen = ~others & ((heaviest > weight_room) | (bias > bias_room))
        down = self._inhibition()
        # The weights of what always fires may double when they are rounded, and it must still fire.
        room = np.where(always, 0.5 * level / np.maximum(down, 1e-300), bias_room / np.maximum(bias, 1e-300))
        factor = np.where(chosen, np.minimum(1.0, np.minimum(weight_room / np.maximum(heaviest, 1e-300), room)), 1.0)
        scaled = self.bias * factor[:, None]
        scaled[chosen & always] = np.minimum(self.bias, 2 * level + (factor * down)[:, None])[chosen & always]
        by_row = np.repeat(factor, len(self.weights[0]) // len(factor))[:, None]
        return replace(self, weights=tuple(w * by_row for w in self.weights), bias=scaled)

    def with_excitation_capped(self) -> _Layer:
        """A spike through a capped weight fires its neuron from the lowest potential, with all inhibition against it.

        That takes θ − (k·lowest + inhibition + bias), k = 1 − v_decay, and θ is added for what rounding takes away.
        """
        if self.neuron.i_decay != 1:
            return self
        high, low = self._drive()
        fall = low + self._by_row(self.bias.min(1))
        lowest = v = np.zeros_like(fall)
        for _ in range(self.steps - 1):
            v = self._keep * v + fall
            lowest = np.minimum(lowest, v)
        need = self.neuron.v_threshold - self._keep * lowest - fall + self._slack(high, low)
        cap = np.maximum(need, 0.0) + self.neuron.v_threshold
        weights = (np.minimum(w, cap[:, None] / x) for w, x in zip(self.weights, self.least, strict=True))
        return replace(self, weights=tuple(weights))

    def with_inhibition_capped(self) -> _Layer:
        """After a spike through a capped weight −c its neuron stays silent for all steps of the sample that may follow.

        With h the largest drive, bias included, n steps later the potential is at most
        kⁿ·(k·θ + h − c) + h·(1 + … + kⁿ⁻¹), which must stay below θ for all n < T. θ is added for rounding.
        """
        if self.neuron.i_decay != 1:
            return self
        high, low = self._drive()
        drive, level, keep = high + self._by_row(self.bias.max(1)), self.neuron.v_threshold, self._keep
        least, power, total = np.zeros_like(drive), 1.0, 0.0
        for _ in range(self.steps):
            if power < 1e-12:  # nothing is left of the potential by then, nor could so large a weight be meant
                break
            least = np.maximum(least, keep * level + drive - (level - drive * total) / power)
            total, power = total + power, power * keep
        if keep > 0 and power < 1e-12:
            return self
        cap = least + self._slack(high, low) + level
        weights = (np.maximum(w, -cap[:, None] / x) for w, x in zip(self.weights, self.least, strict=True))
        return replace(self, weights=tuple(weights))

    @property
    def _keep(self) -> float:
        return 1.0 - self.neuron.v_decay

    def _constant(self) -> tuple[Mask, Mask]:
        """Units that never fire within the steps of a sample, and those that fire in every one, whatever arrives."""
        high, low = self._drive()
        slack = self._by_unit(self._slack(high, low)).max(1)
        rise, most = self._by_unit(high).max(1), self.bias.max(1)
        u, v, highest = np.zeros_like(rise), np.zeros_like(rise), np.full_like(rise, -np.inf)
        for _ in range(self.steps):
            u = (1.0 - self.neuron.i_decay) * u + rise
            v = self._keep * v + u + most
            highest = np.maximum(highest, v)
        never: Mask = highest < self.neuron.v_threshold - self.steps * slack
        always: Mask = self.bias.min(1) - self._inhibition() > self.neuron.v_threshold + slack
        return never, always

    def _inhibition(self) -> Reals:
        """The largest inhibitory current of each unit, which lasts as long as currents do."""
        low = -self._by_unit(self._drive()[1]).min(1)
        lasting = 1.0 / self.neuron.i_decay if self.neuron.i_decay else np.inf
        most: Reals = np.multiply(low, lasting, out=np.zeros_like(low), where=low > 0)
        return most

    def _drive(self) -> tuple[Reals, Reals]:
        """Largest and smallest sum that can arrive at each row in one step."""
        parts = list(zip(self.weights, self.most, strict=True))
        high = sum((np.maximum(w, 0).sum(1) * most for w, most in parts), np.zeros(len(self.weights[0])))
        low = sum((np.minimum(w, 0).sum(1) * most for w, most in parts), np.zeros(len(self.weights[0])))
        return high, low

    def _heaviest(self) -> Reals:
        """Each row's largest weight, per smallest value that its source sends."""
        parts = [np.abs(w).max(1, initial=0.0) * x for w, x in zip(self.weights, self.least, strict=True)]
        return np.asarray(np.max(parts, axis=0))

    def _slack(self, high: Reals, low: Reals) -> Reals:
        """What sums of each row may be off by."""
        return TOLERANCE * (high - low + self._by_row(np.abs(self.bias).max(1)) + self.neuron.v_threshold)

    def _by_unit(self, rows: Reals) -> Reals:
        return rows.reshape(len(self.bias), -1)

    def _by_row(self, units: Reals) -> Reals:
        return np.repeat(units, len(self.weights[0]) // len(units))


def _key(network: Network, synapses: Synapses) -> tuple[str, int, float]:
    """Synapses of one key had one kernel and keep one."""
    return synapses.target, id(synapses.op), network[synapses.source].neuron.unit_sent


def _largest_real(network: Network, synapses: Synapses) -> float:
    source = network[synapses.source]
    return source.neuron.most_sent / source.neuron.unit_sent
