"""A network's integers against xylosim: every current, potential and spike of every chip step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hw_targets.emulation.emulate import emulate
from hw_targets.ir.network import Array, ChipNetwork
from hw_targets.targets.xylo.core import Core
from hw_targets.targets.xylo.dynamics.engine import run
from hw_targets.targets.xylo.xylosim.runner import Layer


@dataclass(frozen=True)
class IntegerComparison:
    """Integers of all neurons, ours against xylosim's.

    `compared` counts currents, potentials and spikes of all steps, `differences` those that disagree, ours being the
    engine's, and the spikes that `emulate` reports. `spikes` is how many xylosim sent.
    """

    samples: int
    compared: int
    spikes: int
    differences: int


def compare_with_xylosim(
    network: ChipNetwork, inputs: Array, *, waiting: Callable[[], object] = lambda: None
) -> IntegerComparison:
    """Run samples through xylosim and through `emulate`.

    Args:
        network: of Xylo's neurons.
        inputs: as for `emulate`: (N, *shape), or (T, N, *shape).
        waiting: called after each sample.

    Raises:
        XylosimUnavailable: xylosim is not installed; the message says how.
        InvalidNetwork: as `emulate`.
    """
    import torch

    activity, core = emulate(network, np.asarray(inputs)), Core(network)
    shown = core.chip_inputs(torch.from_numpy(np.ascontiguousarray(activity.spikes[network.inputs[0].name])))
    ours, layer = run(core.specification, shown, record=True), Layer(core.specification)
    assert ours.states is not None
    compared = spikes = differences = 0
    for sample in range(shown.shape[1]):
        theirs = layer.run(shown[:, sample])
        mine = (*(part[:, sample] for part in ours.states), ours.spikes_out[:, sample])
        # Ours come as isyn, vmem, spikes of hidden neurons, then of outputs; so do xylosim's.
        differences += sum(int((a != b).sum()) for a, b in zip(mine, theirs, strict=True))
        compared += sum(part.size for part in theirs)
        spikes += int(theirs[2].sum() + theirs[5].sum())
        differences += _unlike(network, core, activity.spikes, theirs, sample)
        waiting()
    return IntegerComparison(shown.shape[1], compared, spikes, differences)


def _unlike(network: ChipNetwork, core: Core, sent: Mapping[str, Array], theirs: tuple[Array, ...], sample: int) -> int:
    """Spikes of `emulate` that are not xylosim's, population by population."""
    total, layout = 0, core.layout
    for name, late in layout.late.items():
        steps = slice(late, late + network.time_steps)
        if name == layout.output:
            expected = theirs[5][steps]
        else:
            first = layout.first[name]
            expected = theirs[2][steps, first : first + network[name].size]
        found = sent[name][:, sample].reshape(len(expected), -1)
        total += int((found != expected).sum())
    return total
