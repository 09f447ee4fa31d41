"""NIR files: read back with nir itself, run by an interpreter written from NIR's equations, and damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw_targets import HardwareTargetError, from_nir, from_torch
from hw_targets.errors import InvalidFile, UnsupportedModel
from hw_targets.frontends.nir.writer import to_nir, write_nir
from hw_targets.ir.network import LIF, Dense, Network, Population, SpikeInput, Synapses
from neuroprune.models.sew_resnet import SmallSEWResNet


def randomise_batch_norm(model: nn.Module) -> nn.Module:
    """Statistics and affine parameters that a fold must not forget."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.2, 1.0)
                module.weight.uniform_(0.5, 2.0)
                module.bias.normal_(0.3, 0.3)
    return model


def interpret(graph: Any, x: torch.Tensor) -> torch.Tensor:
    """Forward Euler with dt = 1 over the input (T, N, ...); returns what reaches the output, (T, N, F)."""
    state: dict[str, torch.Tensor] = {}
    outputs = []
    for step in x:
        value: dict[str, torch.Tensor] = {"input": step}
        waiting = [name for name in graph.nodes if name != "input"]
        while waiting:
            name = next(n for n in waiting if all(a in value for a, b in graph.edges if b == n))
            waiting.remove(name)
            current = sum((value[a] for a, b in graph.edges if b == name), torch.zeros(()))
            value[name] = advance(graph.nodes[name], name, current, state)
        outputs.append(value["output"])
    return torch.stack(outputs)


def advance(node: Any, name: str, x: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    def array(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float64))

    kind = type(node).__name__
    v = state.get(name, torch.zeros_like(x))
    if kind == "Conv2d":
        stride, padding, dilation = ([int(n) for n in v] for v in (node.stride, node.padding, node.dilation))
        return F.conv2d(x, array(node.weight), array(node.bias), stride, padding, dilation, int(node.groups))
    if kind == "Affine":
        return F.linear(x, array(node.weight), array(node.bias))
    if kind == "Flatten":
        return x.flatten(1)
    if kind == "Output":
        return x
    if kind == "I":
        state[name] = v + array(node.r) * x
        return state[name]
    decay = 0.0 if kind == "IF" else 1.0 / array(node.tau)
    v = v * (1.0 - decay) + array(node.r) * (1.0 if kind == "IF" else decay) * x
    fired = v >= array(node.v_threshold)
    state[name] = v.masked_fill(fired, 0.0)
    return fired.double()


@pytest.mark.parametrize("pool", [False, True], ids=["plain", "max-pool"])
@pytest.mark.parametrize("neuron", ["IF", "LIF"])
def test_a_nir_file_computes_what_the_model_computes(neuron: Any, pool: bool, tmp_path: Path) -> None:
    model = randomise_batch_norm(SmallSEWResNet((3, 4), neuron_type=neuron, stem_pool=pool)).double().eval()
    x = torch.randint(0, 256, (5, 1, 12, 12)).double().div(255).expand(4, 5, 1, 12, 12)
    network = from_torch(model, x)
    write_nir(network, tmp_path / "model.nir")
    graph = nir.read(str(tmp_path / "model.nir"))
    with torch.no_grad():
        expected = model(x).sum(0)
    torch.testing.assert_close(interpret(graph, x)[-1], expected)
    assert float(expected.std()) > 0


def test_the_terms_of_a_sew_add_share_one_node() -> None:
    model = SmallSEWResNet((3, 4)).eval()
    graph = to_nir(from_torch(model, torch.rand(4, 2, 1, 12, 12)))
    into = [a for a, b in graph.edges if b == "blocks_1_sn1_in0"]
    assert sorted(into) == ["blocks_0_sn2", "sn1"]


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.nir"
    path.write_bytes(b"precious")
    network = from_torch(SmallSEWResNet((2, 2)).eval(), torch.rand(4, 1, 1, 8, 8))
    with pytest.raises(InvalidFile, match="exists already"):
        write_nir(network, path)
    assert path.read_bytes() == b"precious"


def small_network(**options: Any) -> Network:
    neuron = LIF(1.0, **{"v_decay": 0.5, **options})
    populations = (Population("input", (3,), SpikeInput()), Population("n", (4,), neuron))
    weight = np.random.default_rng(0).normal(size=(4, 3))
    return Network(populations, (Synapses("input", "n", Dense(weight)),), time_steps=4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A fine file."""
    write_nir(small_network(), tmp_path / "model.nir")
    return tmp_path / "model.nir"


@pytest.mark.parametrize("decays", [{"i_decay": 0.0}, {"i_decay": 0.5, "v_decay": 0.0}])
def test_currents_that_never_decay_are_not_written(decays: dict[str, float]) -> None:
    with pytest.raises(UnsupportedModel, match=r"n has a current .* that never decays"):
        to_nir(small_network(**decays))


def put(key: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        if key in file:
            del file[key]
        file.create_dataset(key, data=value)

    return change


def drop(key: str) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[key]

    return change


def link(key: str, target: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[key]
        file[key] = target

    return change


WEIGHT = "node/nodes/n_in0/weight"
DAMAGE: dict[str, tuple[Callable[[Any], None], str]] = {
    "no graph": (drop("node"), "no group 'node', so it is no NIR file"),
    "no type": (drop("node/nodes/n/type"), "node/nodes/n/type is missing"),
    "no edges": (drop("node/edges"), "node/edges is missing"),
    "no weight": (drop(WEIGHT), "n_in0/weight is missing"),
    "other type": (put("node/nodes/n/type", "Izhikevich"), "n is a 'Izhikevich'; known are"),
    "no root graph": (put("node/type", "LIF"), "is a LIF, expected a NIRGraph"),
    "NaN": (put(WEIGHT, np.full((4, 3), np.nan)), "n_in0/weight: 12 of 12 values are NaN"),
    "text for numbers": (put(WEIGHT, "many"), "n_in0/weight holds text, expected numbers"),
    "wrong shape": (put(WEIGHT, np.ones((4, 5))), r"n_in0 \(Affine\) takes 5 features, but gets .*\(3,\)"),
    "wrong axes": (put(WEIGHT, np.ones(12)), r"n_in0 \(Affine\) has a weight of shape \(12,\)"),
    "wrong parameters": (
        put("node/nodes/n/tau", np.ones(7)),
        r"n \(LIF\) has tau of shape \(7,\), but gets a signal of shape \(4,\)",
    ),
    "numbers for names": (put("node/edges", np.ones((2, 2))), "node/edges holds float64"),
    "names of no node": (put("node/edges", [("input", "ghost")]), "names 'ghost', which is no node"),
    "pairs of three": (put("node/edges", [("input", "n", "output")]), r"edges holds object \(1, 3\)"),
    "external link": (link(WEIGHT, h5py.ExternalLink("other.h5", "/x")), "is a link to another place"),
    "soft link": (link("node/nodes/n", h5py.SoftLink("/node")), "is a link to another place"),
    "graph in itself": (lambda file: file["node/nodes"].__setitem__("deep", file["node"]), "nests more than 8"),
    "array for dt": (put("node/metadata/dt", np.ones(3)), "arrays where single numbers belong"),
    "huge input": (put("node/nodes/input/shape", [1 << 40]), "input has shape|takes 3 features"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_bad_file_is_refused_with_the_place(damage: Callable[[Any], None], message: str, path: Path) -> None:
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(HardwareTargetError, match=message):
        from_nir(path)


def test_what_is_no_nir_file_at_all(tmp_path: Path, path: Path) -> None:
    for wrong in (tmp_path / "none.nir", tmp_path):
        with pytest.raises(InvalidFile, match="is no file"):
            from_nir(wrong)
    (tmp_path / "text.nir").write_text("graph")
    with pytest.raises(InvalidFile, match="no HDF5 file"):
        from_nir(tmp_path / "text.nir")
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(InvalidFile, match="no HDF5 file, or a truncated one"):
            from_nir(path)


def test_flipped_bytes_never_crash(path: Path, tmp_path: Path) -> None:
    """Either the file is refused, or it reads as some network."""
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for trial in range(120):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), 12):
            damaged[position] = rng.integers(0, 256)
        (tmp_path / f"{trial}.nir").write_bytes(damaged)
        try:
            from_nir(tmp_path / f"{trial}.nir")
        except HardwareTargetError:
            refused += 1
    assert 0 < refused < 120
