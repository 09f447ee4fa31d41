"""NIR files: read back with nir itself, and run by an interpreter written from NIR's equations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw_targets import from_torch
from hw_targets.errors import InvalidFile
from hw_targets.nir_io import to_nir, write_nir
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
