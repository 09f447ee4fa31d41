"""SpikingJelly's own SEW ResNets, unchanged, through the whole chain: every spike as SpikingJelly sends it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from hw_targets import emulate, export_netx, from_torch, quantize
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.builders.sew_resnet import CLASSES, LOIHI, T, images, sew

Array = NDArray[Any]


def run(model: nn.Module, x: Tensor, mode: str) -> tuple[Array, dict[str, Array]]:
    """Summed output (N, classes), and the spikes (T, N, …) of every neuron module."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        m.register_forward_hook(lambda _m, _i, output, name=name: seen.setdefault(name, []).append(output))
        for name, m in model.named_modules()
        if isinstance(m, neuron.IFNode)
    ]
    functional.reset_net(model)
    with torch.no_grad():
        output = model(x.expand(T, *x.shape)) if mode == "m" else torch.stack([model(x) for _ in range(T)])
    functional.reset_net(model)
    for handle in handles:
        handle.remove()
    return output.sum(0).numpy(), {name: torch.cat(s).reshape(T, *s[0].shape[-4:]).numpy() for name, s in seen.items()}


def assert_same(network: Network | ChipNetwork, integers: Tensor, output: Array, fired: dict[str, Array]) -> None:
    """Output and every spike of every layer."""
    ours = emulate(network, integers)
    np.testing.assert_allclose(ours.output, output, rtol=1e-9, atol=1e-9)
    assert {p.name for p in network.populations} == {"input", "maxpool", "fc", *fired}
    for name, expected in fired.items():
        assert 0 < expected.mean() < 1, f"{name} never or always fires: the test shows nothing"
        np.testing.assert_array_equal(ours.spikes[name], expected, err_msg=name)


def in_integers(model: nn.Module, chip: ChipNetwork) -> nn.Module:
    """SpikingJelly's model with the chip's integers: kernels, biases (through the batch-norms) and thresholds."""
    model = deepcopy(model)
    parts: dict[str, Any] = dict(model.named_modules())
    with torch.no_grad():
        for name, node in parts.items():
            if not isinstance(node, neuron.IFNode):
                continue
            stem, _, own = name.rpartition("sn")
            conv, norm = (f"{stem}conv{own}", f"{stem}bn{own}")
            if name.endswith("downsample_sn"):
                conv, norm = (f"{name.removesuffix('_sn')}.{i}" for i in (0, 1))
            ops = [s.op.weight for s in chip.incoming(name)]
            assert all(np.array_equal(op, ops[0]) for op in ops), "the terms of a SEW ADD share one kernel"
            parts[conv].weight.copy_(torch.from_numpy(ops[0]))
            bn, bias = parts[norm], chip[name].bias
            assert bias is not None
            bn.running_mean.zero_(), bn.running_var.fill_(1.0), bn.weight.fill_(1.0)
            bn.bias.copy_(torch.from_numpy(bias))
            bn.eps = 0.0
            # The chip fires above its threshold, SpikingJelly at it or above.
            cuba = chip[name].neuron
            assert isinstance(cuba, CubaLIF)
            node.v_threshold = cuba.v_threshold + 1
        spread = chip.incoming("fc")[0].op.weight.reshape(CLASSES, parts["fc"].in_features, -1)
        assert (spread == spread[..., :1]).all(), "an average pool weighs all its positions alike"
        parts["fc"].weight.copy_(torch.from_numpy(spread.sum(-1)))
        parts["fc"].bias.copy_(torch.from_numpy(chip["fc"].bias))
    return model


def run_file(path: Path, chip: ChipNetwork, integers: Tensor) -> tuple[Array, dict[str, Array]]:
    """The file as what it says it is, a sequence of layers: (N, classes), and spikes (T, N, …) by population."""
    x = integers.float().expand(T, *integers.shape)
    fired: dict[str, Array] = {}
    with h5py.File(path, "r") as file:
        layers = [file[f"layer/{i}"] for i in range(1, len(file["layer"]))]
        for group in layers[:-1]:
            if group["type"][0] == b"flatten":
                x = x.flatten(2)
                continue
            x = fire(_convolved(group, x), int(group["neuron/vThMant"][()]))
            names = list(group.attrs["populations"])
            sizes = [chip[name.split("@")[0]].shape[0] for name in names]
            fired |= {name: part.numpy() for name, part in zip(names, torch.split(x, sizes, 2), strict=True)}
        weight, bias = layers[-1]["weight"], torch.from_numpy(layers[-1]["bias"][()])
        output = (F.linear(x, _floats(weight, range(len(weight)))) + bias).sum(0)
    return output.numpy(), fired


def _convolved(group: Any, x: Tensor) -> Tensor:
    """A layer's currents (T, N, …), row by row, since relays make large kernels; sums below 2^24 are exact."""
    stride, padding, dilation = ([int(n) for n in group[key]] for key in ("stride", "padding", "dilation"))
    rows = [range(i, min(i + 256, len(group["weight"]))) for i in range(0, len(group["weight"]), 256)]
    frames = x.flatten(0, 1)
    parts = [F.conv2d(frames, _floats(group["weight"], r), None, stride, padding, dilation) for r in rows]
    current = torch.cat(parts, 1)
    if "bias" in group:
        current += torch.from_numpy(group["bias"][()]).float()[:, None, None]
    return current.reshape(T, -1, *current.shape[1:])


def _floats(weight: Any, rows: range) -> Tensor:
    return torch.from_numpy(weight[rows.start : rows.stop]).float()


def fire(current: Tensor, threshold: int) -> Tensor:
    """Integrate, fire above the threshold, reset to zero."""
    potential, spikes = torch.zeros_like(current[0]), []
    for step in current:
        potential = potential + step
        spikes.append((potential > threshold).float())
        potential = potential * (1 - spikes[-1])
    return torch.stack(spikes)


def assert_chain(depth: int, mode: str, size: int, folder: Path) -> None:
    """Reals against the model, integers against the model with the chip's integers, and what the file says."""
    model, integers = sew(depth, mode), images(size)
    x = integers.double() / 255
    network = from_torch(model, x.expand(T, *x.shape) if mode == "m" else x, time_steps=T)
    assert_same(network, integers, *run(model, x, mode))
    chip = quantize(network, LOIHI, for_format="netx")
    output, fired = run(in_integers(model, chip), integers.double(), mode)
    assert_same(chip, integers, output, fired)
    export_netx(chip, folder / "sew.net")
    from_file, all_spikes = run_file(folder / "sew.net", chip, integers)
    np.testing.assert_array_equal(from_file, output)
    relays = {name: spikes for name, spikes in all_spikes.items() if "@" in name}
    assert len(all_spikes) == len(fired) + len(relays) + len(["maxpool"])
    for name, expected in fired.items():
        np.testing.assert_array_equal(all_spikes[name], expected, err_msg=name)
    for name, spikes in relays.items():
        np.testing.assert_array_equal(spikes, all_spikes[name.split("@")[0]], err_msg=name)


@pytest.mark.parametrize("mode", ["m", "s"])
def test_sew_resnet_18(mode: str, tmp_path: Path) -> None:
    assert_chain(18, mode, 16, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("depth", [18, 34, 50])
def test_sew_resnets(depth: int, mode: str, tmp_path: Path) -> None:
    assert_chain(depth, mode, 32, tmp_path)
