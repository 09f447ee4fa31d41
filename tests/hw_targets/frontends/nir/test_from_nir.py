"""NIR graphs as networks: every spike is that of the framework that exported them, or they are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from numpy.typing import NDArray
from snntorch.export_nir import export_to_nir as export_snntorch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir as export_spikingjelly
from torch import Tensor, nn

from hw_targets import emulate, export_netx, from_nir, from_torch, load_chip, place, quantize, read_netx
from hw_targets.errors import UnsupportedModel
from hw_targets.ir.network import Accumulator
from tests.twins.nir import T, assert_equal, assert_spikes, bits

DATA = Path(__file__).parents[3] / "data" / "nir_files"
LOIHI = load_chip("loihi1")


def heaviside(x: Tensor) -> Tensor:
    """In double precision, where snnTorch's own surrogates send float32."""
    return (x > 0).to(x.dtype)


SNN: dict[str, Any] = {
    "init_hidden": True,
    "reset_mechanism": "zero",
    "reset_delay": False,
    "spike_grad": heaviside,
}


def leaky(*shape: int, beta: float = 0.8, threshold: float = 0.3) -> nn.Module:
    """One parameter per neuron, without which snnTorch's exporter fails."""
    module: nn.Module = snn.Leaky(torch.full(shape, beta), threshold=torch.full(shape, threshold), **SNN)
    return module


def synaptic(*shape: int) -> nn.Module:
    values = (torch.full(shape, v) for v in (0.6, 0.7, 0.4))
    module: nn.Module = snn.Synaptic(*list(values)[:2], threshold=torch.full(shape, 0.4), **SNN)
    return module


def snntorch_models() -> dict[str, tuple[nn.Sequential, tuple[int, ...]]]:
    torch.manual_seed(1)
    recurrent: dict[str, Any] = {"linear_features": 6, "threshold": 0.3, **SNN}
    return {
        "conv": (
            nn.Sequential(
                nn.Conv2d(2, 3, 3, padding=1), leaky(3, 6, 6), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 5), leaky(5)
            ),
            (2, 6, 6),
        ),
        "readout": (nn.Sequential(nn.Linear(9, 6), leaky(6), nn.Linear(6, 4)), (9,)),
        "synaptic": (nn.Sequential(nn.Linear(9, 6, bias=False), synaptic(6), nn.Linear(6, 4), leaky(4)), (9,)),
        "recurrent": (nn.Sequential(nn.Linear(9, 6), snn.RLeaky(0.7, **recurrent), nn.Linear(6, 4), leaky(4)), (9,)),
    }


def run_steps(model: nn.Sequential, inputs: Tensor) -> tuple[dict[str, NDArray[Any]], Tensor]:
    """Spikes (T, N, ...) of every neuron layer by its position, and the sum of what comes out last."""
    sent: dict[str, list[Tensor]] = {}
    total = torch.zeros(())
    for module in model:
        if isinstance(module, snn.SpikingNeuron):
            module.reset_mem()
    with torch.no_grad():
        for x in inputs:
            for index, module in enumerate(model):
                x = module(x)
                if isinstance(module, (snn.SpikingNeuron, neuron.BaseNode)):
                    sent.setdefault(str(index), []).append(x)
            total = total + x
    return {name: torch.stack(spikes).numpy() for name, spikes in sent.items()}, total


@pytest.mark.parametrize("from_file", [True, False], ids=["file", "graph"])
@pytest.mark.parametrize("kind", snntorch_models())
def test_what_snntorch_exports_spikes_as_snntorch(kind: str, from_file: bool, tmp_path: Path) -> None:
    model, shape = snntorch_models()[kind]
    model = model.double().eval()
    graph = export_snntorch(model, torch.rand(1, *shape).double(), ignore_dims=[0])
    inputs = bits(*shape)
    expected, total = run_steps(model, inputs)
    if from_file:
        nir.write(tmp_path / "model.nir", graph)
    network = from_nir(tmp_path / "model.nir" if from_file else graph, time_steps=T)
    names = {"1": "1.lif"} if kind == "recurrent" else {}
    assert_spikes(network, inputs, {names.get(name, name): spikes for name, spikes in expected.items()})
    assert sum(s.is_recurrent for s in network.synapses) == (kind == "recurrent")
    if kind == "readout":
        assert [type(p.neuron) for p in network.outputs] == [Accumulator]
        np.testing.assert_allclose(emulate(network, inputs).output, total, atol=1e-5)


@pytest.mark.parametrize("kind", ["conv", "readout", "synaptic"])
def test_snntorchs_file_and_model_are_one_network(kind: str) -> None:
    model, shape = snntorch_models()[kind]
    model = model.double().eval()
    read = from_nir(export_snntorch(model, torch.rand(1, *shape).double(), ignore_dims=[0]), time_steps=T)
    direct = from_torch(model, bits(*shape)[0], time_steps=T)
    assert_equal(read, direct, neurons=1e-6)
    chip, other = quantize(read, LOIHI), quantize(direct, LOIHI)
    for ours, theirs in zip(chip.synapses, other.synapses, strict=True):
        np.testing.assert_array_equal(ours.op.weight, theirs.op.weight)


def spikingjelly_models() -> dict[str, tuple[nn.Sequential, tuple[int, ...]]]:
    torch.manual_seed(2)
    cuba = neuron.CUBALIFNode(c_decay=0.5, v_decay=0.75, v_threshold=0.3, v_reset=0.0)
    return {
        "conv": (
            nn.Sequential(
                layer.Conv2d(2, 3, 3, padding=1),
                neuron.IFNode(v_threshold=0.6),
                layer.AvgPool2d(2),
                layer.Flatten(),
                layer.Linear(27, 5),
                neuron.LIFNode(tau=2.0, v_threshold=0.1),
            ),
            (2, 6, 6),
        ),
        "leaks": (
            nn.Sequential(
                layer.Linear(9, 6),
                neuron.LIFNode(tau=3.0, decay_input=False, v_threshold=0.3),
                layer.Linear(6, 4),
                neuron.ParametricLIFNode(init_tau=4.0, v_threshold=0.1),
            ),
            (9,),
        ),
        "reset to another value": (
            nn.Sequential(layer.Linear(9, 6), neuron.LIFNode(tau=2.0, v_threshold=0.1, v_reset=-0.1)),
            (9,),
        ),
        "cuba": (nn.Sequential(layer.Linear(9, 6, bias=False), cuba), (9,)),
        "signal": (
            nn.Sequential(layer.Conv1d(2, 3, 3), neuron.IFNode(v_threshold=0.4), layer.Flatten(), layer.Linear(12, 3)),
            (2, 6),
        ),
    }


@pytest.mark.parametrize("kind", spikingjelly_models())
def test_what_spikingjelly_exports_spikes_as_spikingjelly(kind: str, tmp_path: Path) -> None:
    model, shape = spikingjelly_models()[kind]
    model = model.double().eval()
    export_spikingjelly(model, torch.rand(1, *shape).double(), save_path=tmp_path / "model.nir")
    network = from_nir(tmp_path / "model.nir", time_steps=T, strict=False)
    inputs = bits(*shape)
    functional.reset_net(model)
    expected, _ = run_steps(model, inputs)
    if len(shape) == 2:
        inputs = inputs.unsqueeze(3)
        expected = {name: spikes[:, :, :, None] for name, spikes in expected.items()}
    assert_spikes(network, inputs, {f"_{name}": spikes for name, spikes in expected.items()})
    if kind in ("conv", "leaks"):
        functional.reset_net(model)
        direct = from_torch(model, bits(*shape)[0], time_steps=T)
        theirs = emulate(direct, inputs).spikes
        for name, spikes in emulate(network, inputs).spikes.items():
            if name.startswith("_"):
                np.testing.assert_array_equal(theirs[name[1:]], spikes)


#: File, and what `from_nir` needs to be told of it; recorded by tests/data/make_nir.py.
RECORDED: dict[str, dict[str, Any]] = {
    "norse_lif": {"dt": 1e-6, "input_shape": (7,)},
    "norse_if": {"dt": 1, "input_shape": (7,)},
    "norse_conv": {"dt": 1e-6},
    "norse_cuba": {"dt": 1e-6, "input_shape": (7,)},
    "sinabs": {"dt": 1, "solver": "exponential", "strict": False},
}


@pytest.mark.parametrize("name", RECORDED)
def test_norse_and_sinabs_files_spike_as_recorded(name: str) -> None:
    network = from_nir(DATA / f"{name}.nir", time_steps=T, **RECORDED[name])
    with np.load(DATA / f"{name}.npz") as recorded:
        arrays = dict(recorded)
    assert_spikes(network, arrays.pop("inputs"), arrays)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("norse_lif", {"dt": 1e-6}, r"counts a batch axis.*input_shape"),
        ("norse_lif", {"input_shape": (7,)}, r"1 \(LIF\) has a time constant of 4e-06, shorter than.*dt"),
        ("sinabs", {}, r"takes only 0.0001 of its input in a step of dt = 0.0001, which is assumed"),
    ],
)
def test_another_frameworks_units_are_noticed(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        from_nir(DATA / f"{name}.nir", time_steps=T, **options)


def test_the_network_goes_all_the_way_to_a_chips_file(tmp_path: Path) -> None:
    network = quantize(from_nir(DATA / "norse_conv.nir", time_steps=T, dt=1e-6), LOIHI)
    assert place(network, LOIHI).core_count == 1
    export_netx(network, tmp_path / "model.net")
    inputs = bits(2, 6, 6)
    ours, read = emulate(network, inputs), emulate(read_netx(tmp_path / "model.net"), inputs)
    np.testing.assert_array_equal(ours.output, read.output)
    assert ours.output.any()
