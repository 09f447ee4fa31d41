"""What calibration samples send through each synapse: the statistics that rounding errors are weighed with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hw_targets.errors import InvalidNetwork
from hw_targets.ir.activity import Activity
from hw_targets.ir.network import Array, ChipNetwork, Network, Population, Synapses
from hw_targets.ir.neurons import ChipNeuron
from hw_targets.ir.ops import positions
from hw_targets.quantization.descent import Descent
from hw_targets.quantization.receptive import Inputs, patches
from hw_targets.quantization.rounding import Reals, Rows

#: Samples of one population's inputs: enough to tell its columns apart, bounded in time and memory.
SAMPLES = 8192
VALUES = 1 << 25
#: Above this many columns the statistics would take more than half a gigabyte; such rows are rounded one by one.
COLUMNS = 8192
#: Neurons × steps × samples that spikes are compared on at most, and those × columns for a descent over weights: the
#: first bounds its memory, to 100 MB, the second its time, to some 20 seconds.
NEURON_STEPS, TRIALS = 1 << 22, 1 << 33


class Calibration:
    """A network's activity on some samples, in real numbers, and what it says about each population's inputs.

    Args:
        network: what is to be quantized.
        inputs: as `emulate` takes them.

    Raises:
        InvalidNetwork: inputs that do not fit the network, or none at all.
    """

    def __init__(self, network: Network, inputs: npt.ArrayLike) -> None:
        from hw_targets.emulation.emulate import emulate

        values = np.asarray(inputs)
        if values.size == 0:
            raise InvalidNetwork(f"quantize: calibration has the shape {values.shape}, no samples; pass at least one")
        self._network = network
        self._activity: Activity = emulate(network, values)
        self._settled = {p.name: self._activity.spikes[p.name] for p in network.inputs}
        self._last: tuple[str, int, Inputs | None] = ("", 0, None)

    def gram(self, population: Population, rows: Rows) -> Reals | None:
        """Mean of x·xᵀ over the inputs x of a population (columns as in its rows), or None where there is none.

        The drive of neurons that fire counts in every step, that of a readout in sum over the steps. None: too many
        columns, delayed synapses, kernels whose rows read different channels (groups), or neurons of the input layer,
        which must keep one weight for all.
        """
        columns = rows.real.shape[1]
        if columns > COLUMNS or any(_is_special(s) for group in rows.groups for s in group):
            return None
        inputs = self._inputs(population, rows)
        heard = np.flatnonzero(inputs.any(0))
        some = inputs if len(heard) == columns else inputs[:, heard]
        # Sums of whole numbers below 2^53 are exact in any order, so that threads cannot change the result; those below
        # 2^24 in half the time.
        fast = float(inputs.max(initial=0.0)) ** 2 * len(inputs) < 1 << 24
        exact = some.astype(np.float32) if fast else some
        products = _shrunk((exact.T @ exact).astype(np.float64) / len(inputs), len(inputs), columns)
        if some is inputs:
            return products
        gram = np.zeros((columns, columns))
        gram[np.ix_(heard, heard)] = products
        return gram

    def differing(self, network: ChipNetwork, name: str, samples: int) -> int:
        """Spikes of a population in integers that differ from the real ones in the first samples.

        Given what its sources really send: they must have been settled before.
        """
        real = self._activity.spikes[name][:, :samples]
        return int(np.count_nonzero(self._respond(network, name, samples) != real))

    def spikes(self, name: str, samples: int) -> int:
        """Spikes of a population in real numbers in the first samples."""
        return int(self._activity.spikes[name][:, :samples].sum(dtype=np.int64))

    def settle(self, network: ChipNetwork, name: str) -> None:
        """Note what a population sends in the integers that were chosen for it."""
        self._settled[name] = self._respond(network, name, self._activity.samples)

    def samples_to_sweep(self, population: Population, columns: int) -> int:
        """On how many samples a descent over a population's weights may look; 0: there are too many weights for one."""
        return min(self._activity.samples, TRIALS // (population.size * self._network.time_steps * columns))

    def descent(self, network: ChipNetwork, name: str, rows: Rows, scale: float, samples: int) -> Descent | None:
        """A search from a population's integers on, by the first of the samples.

        Args:
            network: the population in integers, and its sources.
            name: the population.
            rows: its weights.
            scale: its scale.
            samples: how many to look at, unless so many neurons would take too long.

        Returns:
            None where the rows are not all there is to a current: grouped, delayed or recurrent synapses, the input
            layer's own neurons, or currents that decay over several steps.
        """
        population, incoming = network[name], network.incoming(name)
        neuron = population.neuron
        count = neuron.dynamics.row_counter(neuron) if isinstance(neuron, ChipNeuron) else None
        if count is None:
            return None
        if any(_is_special(s) or s.is_recurrent for s in incoming):
            return None
        samples = min(samples, max(1, NEURON_STEPS // (population.size * network.time_steps)))
        real = self._activity.spikes[name][:, :samples].astype(bool)
        real = real.reshape(*real.shape[:2], len(rows.real), -1)
        weights = {id(mine): s.op.weight for mine, s in zip(self._network.incoming(name), incoming, strict=True)}
        constant = None
        if population.bias is not None and not rows.has_bias:
            constant = population.bias.reshape(real.shape[2:])
        integers = rows.joined(weights, population.bias)
        return Descent(count, rows, scale, integers, real, self._received(rows, name, samples), constant)

    def _received(self, rows: Rows, name: str, samples: int) -> Inputs:
        """What a population's rows get in integers: the same for every scale that is tried, and kept meanwhile."""
        if self._last[:2] != (name, samples):
            sent = {s.source: self._settled[s.source][:, :samples] for s in self._network.incoming(name)}
            positions = self._network[name].size // len(rows.real)
            self._last = (name, samples, Inputs(rows, sent, positions))
        assert self._last[2] is not None
        return self._last[2]

    def _respond(self, network: ChipNetwork, name: str, samples: int) -> npt.NDArray[np.uint8]:
        from hw_targets.emulation.emulate import respond

        sources = {s.source for s in network.incoming(name) if not s.is_recurrent}
        return respond(network, name, {source: self._settled[source][:, :samples] for source in sources})

    def _inputs(self, population: Population, rows: Rows) -> Reals:
        """Sampled inputs (samples, columns), whole numbers; which steps, samples and positions, a fixed seed says."""
        frames = [self._frames(population, group) for group in rows.groups]
        positions = self._positions(rows.groups[0][0])
        total = len(frames[0]) * positions
        count = min(total, SAMPLES, max(1, VALUES // rows.real.shape[1]))
        chosen = np.sort(np.random.default_rng(0).choice(total, count, replace=False))
        frame, position = np.divmod(chosen, positions)
        parts = [patches(f, group[0].op, frame, position) for f, group in zip(frames, rows.groups, strict=True)]
        if rows.has_bias:
            steps = self._network.time_steps if not population.neuron.fires else 1
            parts.append(np.full((count, 1), float(steps)))
        return np.concatenate(parts, 1)

    def _positions(self, synapses: Synapses) -> int:
        """Neurons that one row of weights serves."""
        return positions(synapses.op, self._network[synapses.source].shape)

    def _frames(self, population: Population, group: tuple[Synapses, ...]) -> Array:
        """What a group of synapses carries, (frames, *source shape): each step of each sample, or each sample's sum."""
        total: Array = sum((self._sent(s) for s in group[1:]), self._sent(group[0]))
        if not population.neuron.fires:
            return np.asarray(total.sum(0))
        return total.reshape(-1, *total.shape[2:])

    def _sent(self, synapses: Synapses) -> Array:
        """(T, N, *shape) that arrives through synapses; what leads back to its own population, one step later."""
        sent: Array = self._activity.spikes[synapses.source].astype(np.int32)
        return np.concatenate([np.zeros_like(sent[:1]), sent[:-1]]) if synapses.is_recurrent else sent


def _is_special(synapses: Synapses) -> bool:
    return synapses.op.groups > 1 or synapses.delay is not None or synapses.immediate


def _shrunk(gram: Reals, samples: int, columns: int) -> Reals:
    """Few samples say little about how columns go together: off the diagonal × n / (n + K) for n samples, K columns."""
    result: Reals = np.asarray(gram * (samples / (samples + columns)))
    np.fill_diagonal(result, np.diag(gram))
    return result
