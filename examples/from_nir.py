"""Take a network that another framework exported as NIR to a chip; no model and no PyTorch code is needed."""

import sys
import tempfile
from pathlib import Path

import nir
import numpy as np

import hw_targets


def example_file(folder: Path) -> Path:
    """What snnTorch, Norse, Sinabs or SpikingJelly would have exported: two layers of integrate-and-fire neurons."""
    rng = np.random.default_rng(0)
    nodes = {
        "input": nir.Input({"input": np.array([20])}),
        "fc1": nir.Linear(rng.normal(0, 0.4, (16, 20))),
        "if1": nir.IF(r=np.full(16, 1e4), v_threshold=np.ones(16), v_reset=np.zeros(16)),
        "fc2": nir.Linear(rng.normal(0, 0.6, (5, 16))),
        "if2": nir.IF(r=np.full(5, 1e4), v_threshold=np.ones(5), v_reset=np.zeros(5)),
        "output": nir.Output({"output": np.array([5])}),
    }
    edges = list(zip(list(nodes), list(nodes)[1:], strict=False))
    nir.write(folder / "model.nir", nir.NIRGraph(nodes, edges))
    return folder / "model.nir"


def main(path: Path, time_steps: int = 16) -> dict[str, float]:
    chip = hw_targets.load_chip("loihi1")
    network = hw_targets.from_nir(path, time_steps=time_steps, reset="zero")
    rng = np.random.default_rng(1)
    shown = rng.integers(0, 2, (time_steps, 8, *network.inputs[0].shape))
    chip_network = hw_targets.to_chip(network, chip, shown)
    real, integers = (hw_targets.emulate(n, shown).output for n in (network, chip_network))
    placement = hw_targets.place(chip_network, chip)
    same = float((real == integers).mean())
    return {"cores": placement.core_count, "spike counts that the integers keep": same, "spikes": int(real.sum())}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else example_file(Path(temporary))))
