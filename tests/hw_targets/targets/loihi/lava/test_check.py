"""What Lava is told to run: states cleared between samples, or kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hw_targets import emulate, export_netx
from hw_targets.ir.network import ChipNetwork, Dense, Population, SpikeInput, Synapses
from hw_targets.targets.loihi.lava.check import LavaJob
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.builders.lava import LavaProcess

pytestmark = pytest.mark.lava


def test_without_a_reset_lava_keeps_what_the_samples_before_left(lava: LavaProcess, tmp_path: Path) -> None:
    """Threshold 9, each sample adds 6 in its one step: alone none fires, one after the other every second does."""
    synapses = Synapses("in", "n", Dense(np.array([[6]], np.int32)))
    populations = (Population("in", (1,), SpikeInput()), Population("n", (1,), CubaLIF(9)))
    network = ChipNetwork(populations, (synapses,), time_steps=1)
    path, samples = tmp_path / "model.net", np.ones((4, 1), np.int32)
    export_netx(network, path)
    kept, cleared = lava.traces([LavaJob(path, samples, 1, (False,), reset=reset) for reset in (False, True)])
    assert kept[0][0, 1:5].tolist() == [0, 1, 0, 1]
    assert cleared[0].sum() == 0
    for trace, reset in ((kept, False), (cleared, True)):
        ours = emulate(network, samples, timing="netx", reset=reset).spikes["n"].ravel()
        assert trace[0][0, 1:5].tolist() == ours.tolist()
