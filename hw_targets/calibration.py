"""What calibration samples send through each synapse: the statistics that rounding errors are weighed with."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from hw_targets.activity import Activity
from hw_targets.errors import InvalidNetwork
from hw_targets.network import Accumulator, Array, ChipNetwork, Conv2d, Network, Op, Population, Synapses
from hw_targets.rounding import Reals, Rows

#: Samples of one population's inputs: enough to tell its columns apart, bounded in time and memory.
SAMPLES = 8192
VALUES = 1 << 25
#: Above this many columns the statistics would take more than half a gigabyte; such rows are rounded one by one.
COLUMNS = 8192


class Calibration:
    """A network's activity on some samples, in real numbers, and what it says about each population's inputs.

    Args:
        network: what is to be quantized.
        inputs: as `emulate` takes them.

    Raises:
        InvalidNetwork: inputs that do not fit the network, or none at all.
    """

    def __init__(self, network: Network, inputs: npt.ArrayLike) -> None:
        from hw_targets._emulate import emulate

        values = np.asarray(inputs)
        if values.size == 0:
            raise InvalidNetwork(f"quantize: calibration has the shape {values.shape}, no samples; pass at least one")
        self._network = network
        self._activity: Activity = emulate(network, values)

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
        # Sums of whole numbers below 2^53 are exact in any order, so that threads cannot change the result.
        return _shrunk(inputs.T @ inputs / len(inputs), len(inputs))

    def differing(self, network: ChipNetwork, name: str) -> int:
        """Spikes of a population in integers that differ from the real ones, given what its sources sent in reals."""
        from hw_targets._emulate import respond

        sent = {s.source: self._activity.spikes[s.source] for s in network.incoming(name) if not s.is_recurrent}
        return int(np.count_nonzero(respond(network, name, sent) != self._activity.spikes[name]))

    def _inputs(self, population: Population, rows: Rows) -> Reals:
        """Sampled inputs (samples, columns), whole numbers; which steps, samples and positions, a fixed seed says."""
        frames = [self._frames(population, group) for group in rows.groups]
        positions = self._positions(rows.groups[0][0])
        total = len(frames[0]) * positions
        count = min(total, SAMPLES, max(1, VALUES // rows.real.shape[1]))
        chosen = np.sort(np.random.default_rng(0).choice(total, count, replace=False))
        frame, position = np.divmod(chosen, positions)
        parts = [_patches(f, group[0].op, frame, position) for f, group in zip(frames, rows.groups, strict=True)]
        if rows.has_bias:
            steps = self._network.time_steps if isinstance(population.neuron, Accumulator) else 1
            parts.append(np.full((count, 1), float(steps)))
        return np.concatenate(parts, 1)

    def _positions(self, synapses: Synapses) -> int:
        """Neurons that one row of weights serves."""
        op = synapses.op
        return prod(op.output_shape(self._network[synapses.source].shape)[1:]) if isinstance(op, Conv2d) else 1

    def _frames(self, population: Population, group: tuple[Synapses, ...]) -> Array:
        """What a group of synapses carries, (frames, *source shape): each step of each sample, or each sample's sum."""
        total: Array = sum((self._sent(s) for s in group[1:]), self._sent(group[0]))
        if isinstance(population.neuron, Accumulator):
            return np.asarray(total.sum(0))
        return total.reshape(-1, *total.shape[2:])

    def _sent(self, synapses: Synapses) -> Array:
        """(T, N, *shape) that arrives through synapses; what leads back to its own population, one step later."""
        sent: Array = self._activity.spikes[synapses.source].astype(np.int32)
        return np.concatenate([np.zeros_like(sent[:1]), sent[:-1]]) if synapses.is_recurrent else sent


def _is_special(synapses: Synapses) -> bool:
    grouped = isinstance(synapses.op, Conv2d) and synapses.op.groups > 1
    return grouped or synapses.delay is not None or synapses.immediate


def _patches(frames: Array, op: Op, frame: Array, position: Array) -> Reals:
    """Inputs of the neurons at `position` in `frame`: (len(frame), in·kH·kW), or the whole frame for a matrix."""
    if not isinstance(op, Conv2d):
        return frames.reshape(len(frames), -1)[frame].astype(np.float64)
    (py, px), (dy, dx), (sy, sx), (ky, kx) = op.padding, op.dilation, op.stride, op.weight.shape[2:]
    padded = np.pad(frames, ((0, 0), (0, 0), (py, py), (px, px)))
    width = op.output_shape(frames.shape[1:])[2]
    y, x = np.divmod(position, width)
    rows = (y * sy)[:, None] + np.arange(ky) * dy
    columns = (x * sx)[:, None] + np.arange(kx) * dx
    taken = padded[
        frame[:, None, None, None],
        np.arange(frames.shape[1])[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
    patches: Reals = taken.reshape(len(frame), -1).astype(np.float64)
    return patches


def _shrunk(gram: Reals, samples: int) -> Reals:
    """Few samples say little about how columns go together: off the diagonal × n / (n + K) for n samples, K columns."""
    columns = len(gram)
    result: Reals = np.asarray(gram * (samples / (samples + columns)))
    np.fill_diagonal(result, np.diag(gram))
    return result
