"""Transposed convolutions against torch's, from the op to a model, its file and its emulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.nn import functional as F

from hw_targets import emulate, from_nir, from_torch, load_chip, quantize, to_nir
from hw_targets.errors import UnsupportedModel
from hw_targets.frontends.nir.writer import write_nir
from hw_targets.ir.network import Conv2d, Dense
from hw_targets.ir.transposed import transposed_convolution


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.integers(1, 2))
    return {
        "weight": (groups * draw(st.integers(1, 2)), draw(st.integers(1, 2)), *draw(pairs(1, 3))),
        "size": draw(pairs(1, 4)),
        "extra": draw(pairs(0, 1)),
        "layout": {
            "stride": draw(pairs(1, 3)), "padding": draw(pairs(0, 2)), "dilation": draw(pairs(1, 2)), "groups": groups,
        },
    }  # fmt: skip


def applied(op: Conv2d | Dense, x: Tensor, target: tuple[int, ...]) -> Tensor:
    weight = torch.from_numpy(op.weight)
    if isinstance(op, Conv2d):
        return F.conv2d(x, weight, None, op.stride, op.padding, op.dilation, op.groups)
    return (x.flatten(1) @ weight.T).reshape(-1, *target)


@given(cases(), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_the_op_is_torchs(case: dict[str, Any], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    layout = case["layout"]
    weight = torch.randn(case["weight"], generator=generator, dtype=torch.float64)
    x = torch.randn(2, len(weight), *case["size"], generator=generator, dtype=torch.float64)
    longest = [max(s, d) - 1 for s, d in zip(layout["stride"], layout["dilation"], strict=True)]
    extra = [min(e, most) for e, most in zip(case["extra"], longest, strict=True)]
    try:
        wanted = F.conv_transpose2d(x, weight, output_padding=extra, **layout)
    except RuntimeError:
        return  # an empty output
    target = tuple(wanted.shape[1:])
    op = transposed_convolution(weight.numpy(), tuple(x.shape[1:]), target, **layout)
    torch.testing.assert_close(applied(op, x, target), wanted)


def test_a_stride_of_one_stays_a_convolution() -> None:
    assert isinstance(transposed_convolution(np.ones((2, 3, 3, 3)), (2, 5, 5), (3, 5, 5), padding=(1, 1)), Conv2d)
    op = transposed_convolution(np.ones((2, 3, 3, 3)), (2, 5, 5), (3, 9, 9), stride=(2, 2), padding=(1, 1))
    assert isinstance(op, Dense)


def test_a_matrix_that_would_not_fit() -> None:
    with pytest.raises(UnsupportedModel, match=r"33554432.*fewer channels"):
        transposed_convolution(np.ones((64, 32, 2, 2)), (64, 64, 64), (32, 128, 128), stride=(2, 2))


def decoder(stride: int, v_reset: float | None = 0.0) -> nn.Module:
    """A small spiking autoencoder: a strided convolution, and back."""
    torch.manual_seed(stride)
    model = nn.Sequential(
        layer.Conv2d(1, 4, 3, stride=stride, padding=1, step_mode="m"),
        neuron.LIFNode(v_reset=v_reset, decay_input=False, v_threshold=0.5, step_mode="m"),
        layer.ConvTranspose2d(4, 6, 4, stride=stride, padding=1, groups=2, step_mode="m"),
        layer.BatchNorm2d(6, step_mode="m"),
        neuron.IFNode(v_reset=v_reset, v_threshold=0.5, step_mode="m"),
        layer.Conv2d(6, 2, 3, step_mode="m"),
    ).double()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    for part in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        assert part is not None
        part.uniform_(0.5, 1.5)
    return model.eval()


def frames(count: int = 3) -> Tensor:
    return (torch.rand(5, count, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.4).double()


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_model_reads_and_answers_as_torch(stride: int, v_reset: float | None) -> None:
    model, x = decoder(stride, v_reset), frames()
    network = from_torch(model, x)
    with torch.no_grad():
        wanted = model(x).sum(0)
    found = torch.from_numpy(np.asarray(emulate(network, x.numpy()).output)).reshape(wanted.shape)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("stride", [1, 2])
def test_nir_holds_it(stride: int, v_reset: float | None, tmp_path: Path) -> None:
    """Read back, the neurons after a matrix stand in lists, and answer as before."""
    model, x = decoder(stride, v_reset), frames()
    network = from_torch(model, x)
    write_nir(network, tmp_path / "model.nir")
    for back in (from_nir(to_nir(network)), from_nir(tmp_path / "model.nir")):
        mine, theirs = emulate(network, x.numpy()), emulate(back, x.numpy())
        np.testing.assert_allclose(
            np.asarray(theirs.output).reshape(-1), np.asarray(mine.output).reshape(-1), rtol=1e-4, atol=1e-4
        )
        assert [back[name].size for name in back.order] == [network[name].size for name in network.order]


def test_on_a_chip() -> None:
    """A matrix onto a grid is quantized and emulated in integers like any other."""
    model, x = decoder(2), frames()
    network = quantize(from_torch(model, x), load_chip("loihi2"))
    assert np.asarray(emulate(network, x.numpy()).output).any()
