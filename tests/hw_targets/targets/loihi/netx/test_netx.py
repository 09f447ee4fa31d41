"""netx files: their HDF5 content, what cannot be written, relays, and Lava's own simulator as the judge."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hw_targets import emulate, from_torch, read_netx
from hw_targets.errors import HardwareTargetError, InvalidFile, QuantizationError, UnsupportedModel
from hw_targets.ir.network import (
    LIF,
    Accumulator,
    ChipNetwork,
    Conv2d,
    Dense,
    GradedInput,
    Network,
    Population,
    SpikeInput,
    Synapses,
)
from hw_targets.quantization.quantize import quantize
from hw_targets.targets.loihi.lava import runner as lava_runner
from hw_targets.targets.loihi.lava.check import LavaUnavailable, compare_with_lava, run_lava
from hw_targets.targets.loihi.netx import writer as netx
from hw_targets.targets.loihi.netx.relays import insert_relays
from hw_targets.targets.loihi.netx.writer import export_netx, netx_layers
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.registry import load_chip
from neuroprune.models.sew_resnet import SmallSEWResNet
from tests.builders.lava import CI, LavaProcess, lava_module, required_in_ci
from tests.twins.chip import run_slowly

Array = NDArray[Any]
LOIHI = load_chip("loihi1")


def ints(rng: np.random.Generator, *shape: int, largest: int = 40) -> Array:
    return rng.integers(-largest, largest + 1, shape).astype(np.int32)


def chain(seed: int = 0, *, spikes_out: bool = True) -> ChipNetwork:
    """Image → stem → SEW block (sum with the stem) → strided layer; odd and even weights, biases."""
    rng = np.random.default_rng(seed)
    neuron, side = CubaLIF(60), 6
    shared = Conv2d(ints(rng, 4, 3, 3, 3), (2, 2), (1, 1))
    populations: tuple[Population, ...] = (
        Population("in", (2, side, side), GradedInput()),
        Population("stem", (3, side, side), CubaLIF(9000), ints(rng, 3, largest=500)),
        Population("mid", (3, side, side), neuron, ints(rng, 3, largest=20)),
        Population("end", (4, 3, 3), CubaLIF(200), ints(rng, 4, largest=90)),
    )
    synapses: tuple[Synapses, ...] = (
        Synapses("in", "stem", Conv2d(ints(rng, 3, 2, 3, 3), padding=(1, 1))),
        Synapses("stem", "mid", Conv2d(ints(rng, 3, 3, 3, 3), padding=(1, 1))),
        Synapses("stem", "end", shared),
        Synapses("mid", "end", shared),
    )
    if not spikes_out:
        populations += (Population("out", (5,), Accumulator(), ints(rng, 5)),)
        synapses += (Synapses("end", "out", Dense(ints(rng, 5, 36))),)
    return ChipNetwork(populations, synapses, chip="loihi1", time_steps=3, scales={p.name: 1.0 for p in populations})


def mlp(seed: int = 0) -> ChipNetwork:
    """Dense layers only, odd weights up to ±127, biases, leaky neurons: where Lava truncates if it is fed wrongly."""
    rng = np.random.default_rng(seed)

    def odd(*shape: int) -> Array:
        values: Array = (2 * rng.integers(-64, 64, shape) + 1).astype(np.int32) * (rng.random(shape) < 0.7)
        return values.astype(np.int32)

    populations = (
        Population("in", (12,), GradedInput()),
        Population("a", (9,), CubaLIF(11_001, v_decay=512), ints(rng, 9, largest=4000)),
        Population("b", (7,), CubaLIF(101, v_decay=2048)),
        Population("out", (4,), Accumulator(), ints(rng, 4, largest=30)),
    )
    synapses = (
        Synapses("in", "a", Dense(odd(9, 12))),
        Synapses("a", "b", Dense(odd(7, 9))),
        Synapses("b", "out", Dense(odd(4, 7))),
    )
    return ChipNetwork(populations, synapses, chip="loihi1", time_steps=4)


def bright(network: ChipNetwork, samples: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (samples, *network.inputs[0].shape)).astype(np.uint8)


# --- relays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_relays_leave_every_spike_as_it_was(seed: int) -> None:
    network = chain(seed, spikes_out=False)
    relayed = insert_relays(network)
    images = bright(network, 3, seed)
    before, after = emulate(network, images), emulate(relayed, images)
    for name, spikes in before.spikes.items():
        np.testing.assert_array_equal(after.spikes[name], spikes)
    np.testing.assert_array_equal(before.output, after.output)
    added = {p.name for p in relayed.populations} - {p.name for p in network.populations}
    assert added == {"stem@2"}
    np.testing.assert_array_equal(after.spikes["stem@2"], before.spikes["stem"])
    assert before.spikes["stem"].any()
    assert insert_relays(relayed) == relayed or {p.name for p in insert_relays(relayed).populations} == {
        p.name for p in relayed.populations
    }


def skipping(neuron: CubaLIF, *, layers: int = 3) -> ChipNetwork:
    """Dense layers of two neurons; the first also feeds the last."""
    names = [f"n{i}" for i in range(layers)]
    op = Dense(np.array([[70, 0], [0, 70]], np.int32))
    pairs = [("in", names[0]), *pairwise(names), (names[0], names[-1])]
    populations = (Population("in", (2,), SpikeInput()), *(Population(n, (2,), neuron) for n in names))
    return ChipNetwork(populations, tuple(Synapses(a, b, op) for a, b in pairs), time_steps=12)


@pytest.mark.parametrize("layers", [3, 5])
@pytest.mark.parametrize("neuron", [CubaLIF(50), CubaLIF(50, v_decay=100), CubaLIF(126), CubaLIF(50, i_decay=2048)])
def test_relays_copy_spikes_of_any_neuron_or_are_refused(neuron: CubaLIF, layers: int) -> None:
    network = skipping(neuron, layers=layers)
    inputs = np.random.default_rng(0).integers(0, 2, (12, 4, 2))
    try:
        relayed = insert_relays(network)
    except UnsupportedModel:
        assert neuron.i_decay != 4096, "neurons without a current of their own can relay"
        return
    before, after = emulate(network, inputs), emulate(relayed, inputs)
    assert before.spikes["n0"].any()
    for name, spikes in before.spikes.items():
        np.testing.assert_array_equal(after.spikes[name], spikes, err_msg=name)
    assert {f"n0@{i}" for i in range(2, layers)} <= set(after.spikes)


def test_layers_that_fire_too_high_cannot_relay() -> None:
    with pytest.raises(UnsupportedModel, match=r"layer 2 fires at 128.*n0"):
        insert_relays(skipping(CubaLIF(127)))


def test_an_image_cannot_be_relayed() -> None:
    network = skipping(CubaLIF(50))
    skip = replace(network.synapses[-1], source="in")
    image = (replace(network.populations[0], neuron=GradedInput()), *network.populations[1:])
    with pytest.raises(UnsupportedModel, match=r"image \(in\)"):
        insert_relays(replace(network, populations=image, synapses=(*network.synapses[:-1], skip)))


# --- the file ---------------------------------------------------------------------------------------------------------


def text(dataset: Any) -> str:
    """A `type` entry: one fixed-length string, as lava-dl writes and reads it."""
    assert dataset.dtype == np.dtype("S10")
    assert dataset.shape == (1,)
    return str(dataset[0].decode())


def test_the_files_keys_shapes_and_types(tmp_path: Path) -> None:
    network = chain(spikes_out=False)
    path = tmp_path / "model.net"
    export_netx(network, path)
    with h5py.File(path, "r") as file:
        assert sorted(file) == ["layer"]
        layers = [file[f"layer/{i}"] for i in range(len(file["layer"]))]
        assert [text(g["type"]) for g in layers] == ["input", "conv", "conv", "conv", "flatten", "dense"]
        assert file.attrs["time_steps"] == 3
        assert file.attrs["input_message_bits"] == 8
        np.testing.assert_array_equal(layers[0]["shape"][()], (2, 6, 6))
        stem, mid, end, flat, out = layers[1:]
        for group, inputs, outputs, shape, stride in (
            (stem, 2, 3, (3, 6, 6), 1),
            (mid, 3, 6, (6, 6, 6), 1),
            (end, 6, 4, (4, 3, 3), 2),
        ):
            assert int(group["inChannels"][()]) == inputs
            assert int(group["outChannels"][()]) == outputs
            assert int(group["groups"][()]) == 1
            np.testing.assert_array_equal(group["shape"][()], shape)
            np.testing.assert_array_equal(group["kernelSize"][()], (3, 3))
            np.testing.assert_array_equal(group["stride"][()], (stride, stride))
            np.testing.assert_array_equal(group["padding"][()], (1, 1))
            np.testing.assert_array_equal(group["dilation"][()], (1, 1))
            assert group["weight"].shape == (outputs, inputs, 3, 3)
            assert group["bias"].shape == (outputs,)
        np.testing.assert_array_equal(flat["shape"][()], (36,))
        assert (int(out["inFeatures"][()]), int(out["outFeatures"][()])) == (36, 5)
        np.testing.assert_array_equal(out["weight"][()], network.synapses[-1].op.weight)
        assert network["out"].bias is not None
        np.testing.assert_array_equal(out["bias"][()], network["out"].bias)
        for group, threshold in ((stem, 9000), (mid, 60), (end, 200), (out, (1 << 17) - 1)):
            assert text(group["neuron/type"]) == "CUBA"
            values = {key: int(group[f"neuron/{key}"][()]) for key in ("iDecay", "vDecay", "vThMant", "refDelay")}
            assert values == {"iDecay": 4096, "vDecay": 0, "vThMant": threshold, "refDelay": 1}
            assert not group["neuron/gradedSpike"][()]
        for group in (stem, mid, end, out):
            assert np.issubdtype(group["weight"].dtype, np.integer)
            assert np.abs(group["weight"][()]).max() <= 127


def test_the_stacked_kernel_holds_the_relay_in_its_centre(tmp_path: Path) -> None:
    network = chain()
    export_netx(network, tmp_path / "model.net")
    shared = network.synapses[2].op.weight
    with h5py.File(tmp_path / "model.net", "r") as file:
        mid, end = file["layer/2"], file["layer/3"]
        np.testing.assert_array_equal(mid["weight"][:3], network.synapses[1].op.weight)
        relay = np.zeros((3, 3, 3, 3), np.int64)
        for c in range(3):
            relay[c, c, 1, 1] = 61  # one spike must exceed the threshold of 60
        np.testing.assert_array_equal(mid["weight"][3:], relay)
        assert network["mid"].bias is not None
        np.testing.assert_array_equal(mid["bias"][()], [*network["mid"].bias, 0, 0, 0])
        np.testing.assert_array_equal(end["weight"][:, :3], shared)
        np.testing.assert_array_equal(end["weight"][:, 3:], shared)


def test_a_shortcut_waits_for_the_layer_that_has_its_grid(tmp_path: Path) -> None:
    """Block: 6×6 convolution, then one that halves; the halving shortcut belongs beside the second, not the first."""
    rng = np.random.default_rng(3)
    neuron = CubaLIF(60)
    half = Conv2d(ints(rng, 3, 2, 1, 1), (2, 2))
    network = ChipNetwork(
        (
            Population("in", (2, 6, 6), SpikeInput()),
            Population("stem", (2, 6, 6), neuron),
            Population("one", (2, 6, 6), neuron),
            Population("cut", (3, 3, 3), neuron),
            Population("two", (3, 3, 3), neuron),
            Population("out", (2,), Accumulator()),
        ),
        (
            Synapses("in", "stem", Conv2d(ints(rng, 2, 2, 3, 3), padding=(1, 1))),
            Synapses("stem", "one", Conv2d(ints(rng, 2, 2, 3, 3), padding=(1, 1))),
            Synapses("stem", "cut", half),
            Synapses("one", "two", Conv2d(ints(rng, 3, 2, 3, 3), (2, 2), (1, 1))),
            Synapses("two", "out", Dense(ints(rng, 2, 27))),
            Synapses("cut", "out", Dense(ints(rng, 2, 27))),
        ),
        time_steps=3,
    )
    export_netx(network, tmp_path / "cut.net")
    with h5py.File(tmp_path / "cut.net", "r") as file:
        stacked = [list(file[f"layer/{i}"].attrs["populations"]) for i in (1, 2, 3)]
        assert stacked == [["stem"], ["one", "stem@2"], ["cut", "two"]]
        weight = file["layer/3/weight"][()]
        centre = np.zeros((3, 2, 3, 3), np.int64)
        centre[:, :, 1, 1] = half.weight[:, :, 0, 0]
        np.testing.assert_array_equal(weight[:3, 2:], centre)
        assert not weight[:3, :2].any()
        assert not weight[3:, 2:].any()
    inputs = rng.integers(0, 2, (3, 2, 2, 6, 6))
    np.testing.assert_array_equal(emulate(insert_relays(network), inputs).output, emulate(network, inputs).output)


def test_groups_are_unrolled_and_a_layer_without_biases_has_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    op = Conv2d(ints(rng, 4, 2, 2, 3), (1, 2), (0, 1), (2, 1), groups=2)
    shape = op.output_shape((4, 5, 6))
    network = ChipNetwork(
        (Population("in", (4, 5, 6), SpikeInput()), Population("n", shape, CubaLIF(5))), (Synapses("in", "n", op),)
    )
    export_netx(network, tmp_path / "g.net")
    with h5py.File(tmp_path / "g.net", "r") as file:
        group = file["layer/1"]
        assert "bias" not in group
        assert file.attrs["input_message_bits"] == 0
        expected = np.zeros((4, 4, 2, 3), np.int64)
        expected[:2, :2], expected[2:, 2:] = op.weight[:2], op.weight[2:]
        np.testing.assert_array_equal(group["weight"][()], expected)
        np.testing.assert_array_equal(group["dilation"][()], (2, 1))
        np.testing.assert_array_equal(group["stride"][()], (1, 2))
        np.testing.assert_array_equal(group["padding"][()], (0, 1))
        np.testing.assert_array_equal(group["kernelSize"][()], (2, 3))
        np.testing.assert_array_equal(group["shape"][()], shape)
        assert int(group["groups"][()]) == 1


@pytest.mark.parametrize("network", [chain(spikes_out=False), mlp()], ids=["convolutions", "matrices"])
def test_many_weights_are_compressed_and_read_as_before(
    network: ChipNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_netx(network, tmp_path / "plain.net")
    monkeypatch.setattr(netx, "CHUNK_BYTES", 16)
    export_netx(network, tmp_path / "packed.net")
    chunked = 0
    with h5py.File(tmp_path / "plain.net") as plain, h5py.File(tmp_path / "packed.net") as packed:
        for i in range(1, len(plain["layer"])):
            if "weight" in plain[f"layer/{i}"]:
                ours, theirs = plain[f"layer/{i}/weight"], packed[f"layer/{i}/weight"]
                chunked += theirs.chunks is not None
                assert ours.chunks is None
                assert ours.dtype == theirs.dtype == np.int8
                np.testing.assert_array_equal(ours[()], theirs[()])
    assert chunked >= 2
    images = bright(network, 2)
    reread = emulate(read_netx(tmp_path / "packed.net"), images)
    np.testing.assert_array_equal(reread.output, emulate(network, images).output)


def test_even_weights_beyond_8_bits_are_stored_in_16(tmp_path: Path) -> None:
    network = mlp()
    first = network.synapses[0]
    doubled = replace(first, op=Dense(first.op.weight * 2))
    export_netx(replace(network, synapses=(doubled, *network.synapses[1:])), tmp_path / "wide.net")
    with h5py.File(tmp_path / "wide.net") as file:
        weight = file["layer/1/weight"]
        assert weight.dtype == np.int16
        assert np.abs(weight[()]).max() > 127
        np.testing.assert_array_equal(weight[()], doubled.op.weight)


def test_sums_of_weights_beyond_16_bits_are_refused_not_wrapped(tmp_path: Path) -> None:
    """Two parallel kernels of 2^15 + 10 in all would be −2^15 + 10 + … in 16 bits."""
    half = np.full((1, 1, 1, 1), (1 << 15) + 10, np.int32)
    network = ChipNetwork(
        (Population("in", (1, 2, 2), SpikeInput()), Population("n", (1, 2, 2), CubaLIF(5))),
        (Synapses("in", "n", Conv2d(half)), Synapses("in", "n", Conv2d(half.copy()))),
    )
    with pytest.raises(QuantizationError, match="span 0 … 65556"):
        export_netx(network, tmp_path / "sum.net")
    assert not list(tmp_path.iterdir())


@pytest.mark.lava
def test_lavas_own_reader_sees_the_same_weights_in_a_compressed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = chain(spikes_out=False)
    monkeypatch.setattr(netx, "CHUNK_BYTES", 16)
    export_netx(network, tmp_path / "packed.net")
    read = lava_module("lava-dl", "lava/lib/dl/netx/utils.py").NetDict(str(tmp_path / "packed.net"))
    for i, layer in zip((1, 2, 3, 5), netx_layers(insert_relays(network)), strict=True):
        np.testing.assert_array_equal(read["layer"][i]["weight"], layer.weight)


def test_dense_layers_on_a_vector_have_no_flatten(tmp_path: Path) -> None:
    export_netx(mlp(), tmp_path / "m.net")
    with h5py.File(tmp_path / "m.net", "r") as file:
        assert [text(file[f"layer/{i}/type"]) for i in range(len(file["layer"]))] == ["input", *["dense"] * 3]
        assert int(file["layer/1/neuron/vDecay"][()]) == 512


def test_parallel_synapses_of_one_source_stay_within_8_bits(tmp_path: Path) -> None:
    """conv3x3(x) + conv1x1(x), whose largest weights meet in the centre tap: what the chip stores is their sum."""
    rng = np.random.default_rng(0)
    big, small = rng.standard_normal((2, 2, 3, 3)) * 0.1, np.zeros((2, 2, 1, 1))
    big[0, 0, 1, 1] = small[0, 0] = 1.0
    network = Network(
        (
            Population("in", (2, 5, 5), SpikeInput()),
            Population("n", (2, 5, 5), LIF(1.5)),
            Population("out", (2,), Accumulator()),
        ),
        (
            Synapses("in", "n", Conv2d(big, padding=(1, 1))),
            Synapses("in", "n", Conv2d(small)),
            Synapses("n", "out", Dense(rng.standard_normal((2, 50)))),
        ),
        time_steps=4,
    )
    try:
        export_netx(quantize(network, LOIHI), tmp_path / "p.net")
    except HardwareTargetError:
        return
    with h5py.File(tmp_path / "p.net", "r") as file:
        assert np.abs(file["layer/1/weight"][()]).max() <= 127


# --- what cannot be written -------------------------------------------------------------------------------------------


def test_an_all_zero_dense_layer_is_refused_by_name(tmp_path: Path) -> None:
    network = chain(spikes_out=False)
    last = network.synapses[-1]
    zero = replace(last, op=Dense(np.zeros_like(last.op.weight)))
    with pytest.raises(QuantizationError, match=r"all 180 weights of the dense layer out are zero"):
        export_netx(replace(network, synapses=(*network.synapses[:-1], zero)), tmp_path / "z.net")
    assert not list(tmp_path.iterdir())


def test_different_decays_in_one_layer_are_refused_by_name(tmp_path: Path) -> None:
    network = chain()
    twin = Population("twin", (3, 6, 6), CubaLIF(60, v_decay=2048))
    broken = replace(
        network,
        populations=(*network.populations, twin),
        synapses=(
            *network.synapses,
            replace(network.synapses[1], target="twin"),
            replace(network.synapses[2], source="twin"),
        ),
    )
    with pytest.raises(UnsupportedModel, match=r"decay.*mid.*twin|mid.*twin.*decay"):
        export_netx(broken, tmp_path / "d.net")
    assert not list(tmp_path.iterdir())


def test_different_grids_in_one_layer_are_refused_by_name(tmp_path: Path) -> None:
    """A shortcut that keeps the grid beside a branch that halves and restores nothing."""
    rng = np.random.default_rng(0)
    spiking = CubaLIF(60)
    network = ChipNetwork(
        (
            Population("in", (2, 6, 6), SpikeInput()),
            Population("half", (2, 3, 3), spiking),
            Population("full", (2, 6, 6), spiking),
            Population("out", (2,), Accumulator()),
        ),
        (
            Synapses("in", "half", Conv2d(ints(rng, 2, 2, 3, 3), (2, 2), (1, 1))),
            Synapses("in", "full", Conv2d(ints(rng, 2, 2, 3, 3), (1, 1), (1, 1))),
            Synapses("half", "out", Dense(ints(rng, 2, 18))),
            Synapses("full", "out", Dense(ints(rng, 2, 72))),
        ),
    )
    with pytest.raises(UnsupportedModel, match=r"half, full.*grids \[\(3, 3\), \(6, 6\)\]"):
        export_netx(network, tmp_path / "g.net")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "model.net"
    path.write_bytes(b"somebody's work")
    with pytest.raises(InvalidFile, match="exists already"):
        export_netx(chain(), path)
    assert path.read_bytes() == b"somebody's work"
    export_netx(chain(), path, overwrite=True)
    with h5py.File(path, "r") as file:
        assert "layer/0" in file
    assert [p.name for p in tmp_path.iterdir()] == ["model.net"]


@pytest.mark.parametrize("before", [None, b"somebody's work"])
def test_an_exception_during_the_export_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    path = tmp_path / "model.net"
    if before is not None:
        path.write_bytes(before)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(netx, "_write_layer", fail)
    with pytest.raises(OSError, match="disk full"):
        export_netx(chain(), path, overwrite=True)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="is not a folder"):
        export_netx(chain(), tmp_path / "nowhere" / "model.net")


# --- Lava -------------------------------------------------------------------------------------------------------------


def found(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_continuous_integration_has_lava() -> None:
    """The comparisons below may be skipped on a laptop, never where CI=true."""
    assert not CI or (found("lava-nc") and found("lava-dl"))


@pytest.mark.lava
def test_lava_spikes_as_we_do_on_a_sew_network(tmp_path: Path) -> None:
    """LIF, batch-norm biases, a max-pool stem, a block with a downsampling shortcut, three samples in a row.

    In a process of its own, as users have it.
    """
    torch.manual_seed(2)
    model = SmallSEWResNet((3, 4), neuron_type="LIF", in_channels=2, classes=5, stem_stride=1, stem_pool=True)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            assert m.running_mean is not None
            assert m.running_var is not None
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.05, 0.3)
            torch.nn.init.normal_(m.bias, 0.1, 0.3)
    network = quantize(from_torch(model, torch.rand(3, 1, 2, 8, 8)), LOIHI, for_format="netx")
    assert any(p.bias is not None and p.bias.any() for p in network.populations)
    export_netx(network, tmp_path / "sew.net")
    images = bright(network, 3)
    as_the_model_takes_them = torch.from_numpy(images).double() / 255
    with required_in_ci():
        verdict = compare_with_lava(network, tmp_path / "sew.net", as_the_model_takes_them, static=True)
    assert (verdict.samples, verdict.differences, verdict.readout_differences) == (3, 0, 0)
    assert verdict.compared > 100
    assert verdict.positions > 1.2 * verdict.compared, "neurons are silent, too"
    spikes = emulate(network, images, static=True).spikes
    assert all(s.any() for s in spikes.values()), "every population takes part"


def traces_of(lava: LavaProcess, network: ChipNetwork, path: Path, images: Array, readouts: list[bool]) -> list[Array]:
    export_netx(network, path)
    with lava.running():
        return list(run_lava(path, images, network.time_steps, readouts))


def aligned(trace: Array, depth: int, network: ChipNetwork, samples: int) -> Array:
    """(neurons, all steps) → (T, N, neurons): layer `depth` (from 0) answers step t of the input at t + 1 + depth."""
    steps = network.time_steps
    return np.stack([np.stack([trace[:, 1 + depth + n * steps + t] for n in range(samples)]) for t in range(steps)])


@pytest.mark.lava
def test_lavas_raw_traces_of_an_output_spiking_network_equal_the_slow_twin(tmp_path: Path, lava: LavaProcess) -> None:
    network, samples = chain(4), 3
    images = bright(network, samples)
    traces = traces_of(lava, network, tmp_path / "n.net", images, [False, False, False])
    slow = run_slowly(network, images)
    stacked = (["stem"], ["mid", "stem"], ["end"])  # the second layer relays the stem
    compared = 0
    for depth, (trace, names) in enumerate(zip(traces, stacked, strict=True)):
        theirs = aligned(trace, depth, network, samples)
        expected = np.concatenate([slow.spikes[n].reshape(*theirs.shape[:2], -1) for n in names], 2)
        np.testing.assert_array_equal(theirs, expected)
        assert 0 < expected.mean() < 1
        compared += int(expected.sum())
    assert compared > 100


@pytest.mark.lava
def test_lavas_raw_traces_of_dense_layers_with_odd_weights_equal_the_slow_twin(
    tmp_path: Path, lava: LavaProcess
) -> None:
    network, samples = mlp(1), 8
    images = bright(network, samples)
    traces = traces_of(lava, network, tmp_path / "m.net", images, [False, False, True])
    slow = run_slowly(network, images)
    for depth, name in enumerate(("a", "b")):
        np.testing.assert_array_equal(aligned(traces[depth], depth, network, samples), slow.spikes[name])
        assert 0 < slow.spikes[name].mean() < 1
    np.testing.assert_array_equal(aligned(traces[2], 2, network, samples), slow.sums["out"])
    assert np.abs(slow.output).min(initial=1 << 20) >= 0
    assert len(np.unique(slow.output)) > 3


def pretend_python(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have a shell script run where the Lava runner would."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_without_lava_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_netx(mlp(), tmp_path / "m.net")
    script = f"echo noise >&2; echo \"No module named 'lava'\" >&2; exit {lava_runner.UNAVAILABLE}"
    pretend_python(tmp_path, monkeypatch, script)
    with pytest.raises(LavaUnavailable, match=r"\(No module named 'lava'\).*pip install"):
        compare_with_lava(mlp(), tmp_path / "m.net", bright(mlp(), 1))


def test_a_failure_of_lava_is_an_error_not_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_netx(mlp(), tmp_path / "m.net")
    pretend_python(tmp_path, monkeypatch, "exit 0")  # says nothing and writes nothing
    with pytest.raises(HardwareTargetError, match="could not run"):
        compare_with_lava(mlp(), tmp_path / "m.net", bright(mlp(), 1))


def test_the_caller_hears_that_lava_is_still_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_netx(mlp(), tmp_path / "m.net")
    pretend_python(tmp_path, monkeypatch, "sleep 1.2; exit 1")
    heard: list[int] = []
    with pytest.raises(HardwareTargetError, match="could not run"):
        compare_with_lava(mlp(), tmp_path / "m.net", bright(mlp(), 1), waiting=lambda: heard.append(1))
    assert len(heard) == 2


def test_a_missing_file_is_refused_before_lava_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"none\.net does not exist"):
        compare_with_lava(mlp(), tmp_path / "none.net", bright(mlp(), 1))
    with pytest.raises(InvalidFile, match=r"none\.net does not exist"):
        run_lava(tmp_path / "none.net", bright(mlp(), 1), 4, [False])
