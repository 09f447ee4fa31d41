"""Writes tests/data/nir_files: graphs that Norse and Sinabs exported themselves, and the spikes of their own models.

Made with norse 1.1.0 and sinabs 3.1.3 (nir 1.0.8, nirtorch 2.6, torch 2.12.1), which the tests do not need:

    pip install norse==1.1.0 sinabs==3.1.3 && python tests/data/make_nir.py

Each .nir has an .npz of the same name: `inputs` (T, N, ...) and, by the name of each neuron node, spikes (T, N, ...).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import sinabs.layers as sl
import sinabs.nir
import torch
from sinabs.activation import MembraneReset, SingleSpike
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "nir_files"
T, SAMPLES = 8, 4


def save(name: str, graph: Any, inputs: Tensor, spikes: dict[str, Tensor]) -> None:
    for layer, values in spikes.items():
        rate = float(values.mean())
        print(f"{name} {layer}: {rate:.3f}")
        assert 0.02 < rate < 0.9, "no test of anything"
        assert bool(((values == 0) | (values == 1)).all())
    nir.write(FOLDER / f"{name}.nir", graph)
    arrays = {"inputs": inputs, **spikes}
    np.savez_compressed(FOLDER / f"{name}.npz", **{k: v.to(torch.uint8).numpy() for k, v in arrays.items()})


def bits(*shape: int) -> Tensor:
    return (torch.rand(T, SAMPLES, *shape) < 0.4).float()


def box(*shape: int, tau: float = 0.004, threshold: float = 0.06) -> nn.Module:
    """Norse's leaky neuron without a synaptic current; one parameter per neuron, as a file must have it."""
    parameters = {"tau_mem_inv": 1 / tau, "v_th": threshold, "v_leak": 0.0, "v_reset": 0.0}
    cell: nn.Module = norse.LIFBoxCell(
        norse.LIFBoxParameters(**{k: torch.full(shape, v) for k, v in parameters.items()})
    )
    return cell


def run_norse(layers: list[nn.Module], inputs: Tensor) -> dict[str, Tensor]:
    """Spikes of every neuron layer, by its position."""
    states: list[Any] = [None] * len(layers)
    sent: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for x in inputs:
            for index, layer in enumerate(layers):
                if isinstance(layer, (nn.Linear, nn.Conv2d)):
                    x = layer(x)
                else:
                    x, states[index] = layer(x, states[index])
                    sent.setdefault(str(index), []).append(x)
    return {name: torch.stack(spikes) for name, spikes in sent.items()}


def norse_files() -> None:
    dense = [nn.Linear(7, 6), box(6), nn.Linear(6, 5, bias=False), box(5, tau=0.01, threshold=0.02)]
    inputs = bits(7)
    # The batch axis stays in the Input node's shape, as Norse writes it.
    save("norse_lif", norse.to_nir(norse.SequentialState(*dense), inputs[0, :1]), inputs, run_norse(dense, inputs))

    parameters = norse.IAFParameters(v_th=torch.full((6,), 0.4))
    simple = [nn.Linear(7, 6), norse.IAFCell(parameters)]
    save("norse_if", norse.to_nir(norse.SequentialState(*simple), inputs[0, :1]), inputs, run_norse(simple, inputs))

    grids = [
        nn.Conv2d(2, 3, 3, padding=1),
        box(3, 6, 6, threshold=0.05),
        nn.Conv2d(3, 2, 3, stride=2),
        box(2, 2, 2, threshold=0.02),
    ]
    inputs = bits(2, 6, 6)
    graph = norse.to_nir(norse.SequentialState(*grids), inputs[0, :1])
    # Without sizes of the convolutions' inputs nir cannot write the graph, and with the batch axis not infer them.
    graph.nodes["input"] = nir.Input(np.array([2, 6, 6]))
    graph.nodes["output"] = nir.Output(np.array([2, 2, 2]))
    graph.infer_types()
    save("norse_conv", graph, inputs, run_norse(grids, inputs))

    tau = {"tau_mem_inv": 200.0, "tau_syn_inv": 300.0, "v_th": 0.03, "v_leak": 0.0, "v_reset": 0.0}
    cell = norse.LIFCell(norse.LIFParameters(**{k: torch.full((6,), v) for k, v in tau.items()}))
    linear, inputs = nn.Linear(7, 6, bias=False), bits(7)
    graph = norse.to_nir(norse.SequentialState(linear, cell), inputs[0, :1])
    # The export drops LIFCell's synaptic gain, so what counts is what Norse itself makes of the file.
    again = norse.utils.import_nir._import_norse_module(graph.nodes["1"], dt=1e-6)
    save("norse_cuba", graph, inputs, run_norse([linear, again], inputs))


def sinabs_file() -> None:
    one: dict[str, Any] = {"spike_fn": SingleSpike, "reset_fn": MembraneReset(), "batch_size": SAMPLES}
    leaky = {"tau_mem": torch.full((4, 1, 1), 3.0), "spike_threshold": torch.full((4, 1, 1), 0.2)}
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        sl.IAFSqueeze(**one),
        sl.SumPool2d(2),
        nn.Conv2d(3, 4, 3, bias=False),
        sl.LIFSqueeze(**leaky, **one),
        nn.Flatten(),
        nn.Linear(4, 3),
        sl.IAFSqueeze(spike_threshold=torch.tensor(0.5), **one),
    )
    inputs, spikes = bits(2, 6, 6), dict[str, Tensor]()
    for index in (1, 4, 7):
        model[index].register_forward_hook(
            lambda _m, _i, out, name=str(index): spikes.__setitem__(
                name, out.reshape(SAMPLES, T, *out.shape[1:]).transpose(0, 1)
            )
        )
    with torch.no_grad():
        # Sinabs flattens batch and time.
        model(inputs.transpose(0, 1).flatten(0, 1))
        recorded = dict(spikes)
        graph = sinabs.nir.to_nir(model, inputs.transpose(0, 1).flatten(0, 1))
    graph.infer_types()
    save("sinabs", graph, inputs, recorded)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(3)
    norse_files()
    sinabs_file()
