"""Reading netx files: of lava-dl's own blocks and of this package, with Lava's simulator as the judge."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw_targets import emulate, export_netx, from_torch, load_chip, place, quantize, read_netx
from hw_targets.app.cli import main
from hw_targets.errors import HardwareTargetError, InvalidFile, QuantizationError, UnsupportedModel
from hw_targets.ir.connectivity import fan_in
from hw_targets.ir.network import Accumulator, ChipNetwork, Conv2d, GradedInput, SpikeInput
from hw_targets.targets.loihi.lava.check import LavaJob
from hw_targets.targets.loihi.netx.weights import stored_by_netx
from hw_targets.targets.loihi.neuron import CubaLIF
from tests.builders.chains import frames_of, random_chain
from tests.builders.lava import CI, LavaProcess, lava_module
from tests.builders.quantized import sew

Array = NDArray[Any]
SLAYER = Path(__file__).parents[4] / "data" / "netx"
#: Files that lava-dl's slayer blocks wrote (`data/make_netx.py`).
MADE_BY_LAVA_DL = ("conv", "groups", "recurrent", "recurrent_delay", "input_neurons", "batch_norm")
CUBA = {"type": np.array([b"CUBA"]), "iDecay": 4096, "vDecay": 0, "vThMant": 8, "refDelay": 1, "gradedSpike": False}


def write(path: Path, *layers: dict[str, Any], **attributes: int) -> Path:
    """A netx file by hand; a value of None leaves the entry out."""
    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for key, value in layer.items():
                if isinstance(value, dict):
                    for name, inner in value.items():
                        if inner is not None:
                            group.create_dataset(f"{key}/{name}", data=inner)
                elif value is not None:
                    group.create_dataset(key, data=value)
        for key, number in attributes.items():
            file.attrs[key] = number
    return path


def named(kind: str) -> Array:
    return np.array([kind], dtype="S10")


def dense(matrix: Array, **entries: Any) -> dict[str, Any]:
    base = {"type": named("dense"), "shape": np.array([len(matrix)]), "weight": matrix, "neuron": CUBA}
    return {**base, "inFeatures": matrix.shape[1], "outFeatures": len(matrix), **entries}


def conv(weight: Array, shape: tuple[int, ...], **entries: Any) -> dict[str, Any]:
    base = {"type": named("conv"), "shape": np.array(shape), "weight": weight, "neuron": CUBA, "groups": 1}
    return {**base, "stride": 1, "padding": 0, "dilation": 1, **entries}


def entry(*shape: int) -> dict[str, Any]:
    return {"type": named("input"), "shape": np.array(shape)}


def some(seed: int, *shape: int, low: int = -30, high: int = 31) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape)


FLATTEN = {"type": named("flatten"), "shape": np.array([8, 1, 1])}


def unusual(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """What the loader accepts and slayer does not write."""
    by_neuron = some(1, 2, 2, 2, low=-9, high=20).transpose(2, 1, 0)  # (W, H, C)
    kernel = some(2, 2, 1, 2, 2)
    lasting = dict(CUBA, iDecay=0, vDecay=4096, vThMant=3)
    whole = -some(7, 4, 4, low=1, high=129)
    whole[0, 0] = -128
    both = some(8, 4, 4)
    both[0, 0] = -128
    big = some(9, 4, 4, low=-254, high=255) | 1
    files: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
        "no input layer, no neuron, one bias": (
            [dense(some(0, 4, 5)), dense(some(3, 3, 4), neuron=None, bias=np.array([3]))],
            {},
        ),
        "a convolution, no input layer": (
            [conv(kernel, (2, 3, 2)), dict(FLATTEN), dense(some(3, 4, 12))],
            {"input_shape": (1, 4, 3)},
        ),
        "a matrix of a grid, no input layer": ([dense(some(3, 4, 6, low=-9))], {"input_shape": (1, 2, 3)}),
        "biases per neuron of a grid": ([entry(1, 3, 3), conv(kernel, (2, 2, 2), bias=by_neuron)], {}),
        "flat weights, grid shape, one delay": (
            [
                entry(1, 2, 2),
                dense(some(4, 4, 4), weight=some(4, 16), shape=np.array([4, 1, 1]), delay=3),
            ],
            {},
        ),
        "delays per input": ([entry(5), dense(some(5, 4, 5), delay=np.array([0, 1, 2, 3, 4]))], {}),
        "delays per synapse": ([entry(5), dense(some(6, 4, 5), delay=some(6, 4, 5, low=0, high=7))], {}),
        "a current that stays": ([entry(5), dense(some(5, 4, 5, low=-4, high=5), neuron=lasting)], {}),
        "excitatory to 255": ([entry(4), dense(some(10, 4, 4, low=0, high=256), neuron=dict(CUBA, vThMant=300))], {}),
        "odd and large": ([entry(4), dense(big, neuron=dict(CUBA, vThMant=100))], {}),
        "inhibitory to -128": (
            [entry(4), dense(whole, bias=np.full(4, 250), neuron=dict(CUBA, vThMant=60))],
            {"lossy": True},
        ),
        "clipped": ([entry(4), dense(some(12, 4, 4, low=-300, high=400))], {"lossy": True}),
        "fractions": ([entry(4), dense(some(12, 4, 4) + 0.75, bias=np.array([1.5, -1.5, 0, 2]))], {"lossy": True}),
        "clamped delays": ([entry(4), dense(some(13, 4, 4), delay=np.array([0, 63, 70, 1]))], {"lossy": True}),
        "input neurons": (
            [
                entry(1, 3, 3) | {"neuron": CUBA | {"iDecay": 2048, "vThMant": 90}, "weight": 40, "bias": 7},
                conv(kernel, (2, 2, 2)),
            ],
            {"lossy": True},
        ),
        "ignored entries": (
            [entry(1, 3, 3), conv(kernel, (2, 2, 2), delay=np.ones(2), neuron=dict(CUBA, refDelay=3, weight_exp=2))],
            {"lossy": True},
        ),
        "a loop of one sign": (
            [
                entry(4),
                dense(
                    some(14, 4, 4),
                    type=named("dense_rec"),
                    weight_rec=-2 * some(15, 4, 4, low=0, high=64),
                    bias=np.full(4, 20),
                ),
            ],
            {},
        ),
    }
    result = {}
    for index, (name, (layers, options)) in enumerate(files.items()):
        result[name] = (write(folder / f"u{index}.net", *layers, time_steps=6), options)
    return result


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ChipNetwork, Array]]:
    """Every file that can be read, the network read, and inputs for it."""
    files = unusual(tmp_path_factory.mktemp("unusual"))
    files |= {name: (SLAYER / f"{name}.net", {"time_steps": 8, "lossy": True}) for name in MADE_BY_LAVA_DL}
    result = {}
    for name, (path, options) in files.items():
        network = read_netx(path, **options)
        result[name] = (path, network, frames_of(network, 3, 0))
    return result


@pytest.fixture(scope="module")
def lavas(readable: dict[str, tuple[Path, ChipNetwork, Array]], lava: LavaProcess) -> dict[str, list[Array]]:
    """Lava's traces of every file."""
    jobs = []
    for path, network, inputs in readable.values():
        layers = sum(not p.is_input for p in network.populations)
        jobs.append(LavaJob(path, inputs, network.time_steps, (False,) * layers, per_step=True))
    return dict(zip(readable, lava.traces(jobs), strict=True))


@pytest.mark.lava
def test_every_file_spikes_as_it_does_in_lava(
    readable: dict[str, tuple[Path, ChipNetwork, Array]], lavas: dict[str, list[Array]]
) -> None:
    """Three samples in a row, every step of every layer."""
    for name, (_, network, inputs) in readable.items():
        ours = emulate(network, inputs, timing="netx")
        layers = [p for p in network.populations if not p.is_input]
        fired = 0
        for population, trace in zip(layers, lavas[name], strict=True):
            mine = ours.chip_steps(population.name).reshape(-1, population.size)
            np.testing.assert_array_equal(mine, trace[:, : len(mine)].T, err_msg=f"{name}: {population.name}")
            fired += int(mine.sum())
        assert fired > 5, name


def content(path: Path) -> dict[str, Any]:
    """Every dataset's values, by its place in the file."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            value = item[()]
            array = np.asarray(value)
            found[name] = array.astype(float).tolist() if array.dtype.kind in "iufb" else np.ravel(value)[0]

    with h5py.File(path, "r") as file:
        file.visititems(note)
        found["time_steps"] = int(file.attrs.get("time_steps", 1))
        found["input_message_bits"] = int(file.attrs.get("input_message_bits", 0))
    return found


def same_network(ours: ChipNetwork, other: ChipNetwork, seed: int) -> None:
    """Equal spikes and outputs in both kinds of time."""
    inputs = frames_of(ours, 3, seed)
    for timing in ("aligned", "netx"):
        a = emulate(ours, inputs, timing=timing)
        b = emulate(other, inputs, timing=timing)
        assert len(a.spikes) == len(b.spikes)
        for x, y in zip(a.spikes, b.spikes, strict=True):
            np.testing.assert_array_equal(a.chip_steps(x), b.chip_steps(y))
        np.testing.assert_array_equal(a.output, b.output)
        assert list(a.overflows.values()) == list(b.overflows.values())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), graded=st.booleans())
def test_what_was_exported_is_read_back(tmp_path_factory: pytest.TempPathFactory, seed: int, graded: bool) -> None:
    """Layers, delays, recurrence, biases, an input layer's neurons, readouts; written again, nothing has changed."""
    network, folder = random_chain(seed, graded=graded), tmp_path_factory.mktemp("round")
    try:
        export_netx(network, folder / "a.net")
    except (QuantizationError, UnsupportedModel):  # zero weights, delays in a loop: what netx cannot hold
        return
    read = read_netx(folder / "a.net")
    assert read.time_steps == network.time_steps
    assert [type(p.neuron) for p in read.populations] == [type(p.neuron) for p in network.populations]
    same_network(network, read, seed)
    export_netx(read, folder / "b.net")
    assert content(folder / "b.net") == content(folder / "a.net")


def test_files_of_others_keep_their_meaning_when_written_again(
    readable: dict[str, tuple[Path, ChipNetwork, Array]], tmp_path: Path
) -> None:
    written = 0
    for index, (name, (_, network, _)) in enumerate(readable.items()):
        first, second = tmp_path / f"{index}a.net", tmp_path / f"{index}b.net"
        try:
            export_netx(network, first)
        except QuantizationError:
            assert name in ("odd and large", "inhibitory to -128", "recurrent_delay", "clipped"), name
            continue
        again = read_netx(first)
        same_network(network, again, index)
        export_netx(again, second)
        assert content(first) == content(second), name
        written += 1
    assert written >= 15


@pytest.mark.parametrize("name", ["conv", "recurrent", "batch_norm"])
def test_slayers_own_datasets_survive(name: str, tmp_path: Path) -> None:
    """The values lava-dl wrote, entry by entry, up to the shape of `flatten` (which it writes as (n, 1, 1))."""
    export_netx(read_netx(SLAYER / f"{name}.net"), tmp_path / "again.net")
    before, after = content(SLAYER / f"{name}.net"), content(tmp_path / "again.net")
    assert set(before) == set(after)
    for key, value in before.items():
        assert np.ravel(value).tolist()[0] == np.ravel(after[key]).tolist()[0], key
        if before[key.rpartition("/")[0] + "/type"] != b"flatten" if key.endswith("shape") else True:
            assert value == after[key], key


def test_what_a_slayer_file_says() -> None:
    """Numbers straight from the file, next to what was read."""
    network = read_netx(SLAYER / "conv.net", time_steps=5)
    assert (network.time_steps, network.chip) == (5, "")
    assert [p.name for p in network.populations] == ["input", "conv1", "conv2", "dense4", "dense5"]
    assert isinstance(network["input"].neuron, SpikeInput)
    assert read_netx(SLAYER / "conv.net", input_message_bits=3)["input"].neuron == GradedInput(3, 7.0)
    with h5py.File(SLAYER / "conv.net", "r") as file:
        for s in network.synapses:
            group = file[f"layer/{s.target[-1]}"]
            np.testing.assert_array_equal(s.op.weight, group["weight"][()].reshape(s.op.weight.shape))
            if isinstance(s.op, Conv2d):
                assert s.op.stride == tuple(group["stride"][()])
                assert s.op.dilation == tuple(group["dilation"][()])
            neuron = network[s.target].neuron
            assert isinstance(neuron, CubaLIF)
            assert (neuron.i_decay, neuron.v_decay) == (group["neuron/iDecay"][()], group["neuron/vDecay"][()])
        delay = next(s.delay for s in network.synapses if s.target == "dense4")
        assert delay is not None
        np.testing.assert_array_equal(delay[:, 0], file["layer/4/delay"][()])
        assert delay.max() > 1


def test_a_file_of_lava_dl_is_laid_on_cores() -> None:
    network = read_netx(SLAYER / "groups.net")
    placement = place(network, load_chip("loihi1"))
    assert set(placement.cores) == {"conv1", "dense3"}
    assert sum(u.synapses for u in placement.usage) == sum(int(fan_in(s, network).sum()) for s in network.synapses)


def test_a_readout_is_read_as_one(tmp_path: Path) -> None:
    plain = (random_chain(seed, plain=True) for seed in range(50))
    network = next(n for n in plain if isinstance(n.outputs[0].neuron, Accumulator))
    export_netx(network, tmp_path / "r.net")
    assert isinstance(read_netx(tmp_path / "r.net").outputs[0].neuron, Accumulator)


# --- parts of a file, and files without an input ----------------------------------------------------------------------


def test_lavas_own_recording_of_the_first_layers_of_a_file() -> None:
    """N-TIDIGITS of lava-dl 0.6.0's own tests, which load it with num_layers=5: its last is of a kind nobody loads."""
    folder = recorded("ntidigits")
    with pytest.raises(UnsupportedModel, match=r"layer/5.*'average'.*num_layers=5 reads the layers before"):
        read_netx(folder / "ntidigits.net", lossy=True)
    network = read_netx(folder / "ntidigits.net", lossy=True, num_layers=5)
    shown = np.load(folder / "input.npy").T.reshape(3000, 1, 1, 1, 64).astype(int)
    expected = np.load(folder / "output.npy")
    ours = emulate(network, shown, timing="netx", reset=False).chip_steps("dense4").T
    np.testing.assert_array_equal(ours[:, :2999], expected[:, 1:3000])
    assert expected.sum() > 20_000


def recorded(name: str) -> Path:
    """A folder of recordings that lava-dl's wheel carries."""
    try:
        found = importlib.metadata.distribution("lava-dl").locate_file(f"tests/lava/lib/dl/netx/gts/{name}")
    except importlib.metadata.PackageNotFoundError:
        if CI:
            raise
        pytest.skip("lava-dl is not installed")
    return Path(str(found))


def test_the_first_layers_are_those_of_the_whole_file() -> None:
    whole = read_netx(SLAYER / "conv.net", time_steps=5)
    inputs = frames_of(whole, 3, 0)
    expected = emulate(whole, inputs)
    for groups, last in ((2, "conv1"), (3, "conv2"), (4, "conv2"), (5, "dense4"), (6, "dense5")):
        part = read_netx(SLAYER / "conv.net", time_steps=5, num_layers=groups)
        assert part.outputs[0].name == last
        np.testing.assert_array_equal(emulate(part, inputs).spikes[last], expected.spikes[last])


@pytest.mark.parametrize("layers", [0, -1, 7, True, "2", 2.0])
def test_a_number_of_layers_that_the_file_does_not_have_is_refused(layers: Any) -> None:
    with pytest.raises(InvalidFile, match=r"num_layers is .*holds 6"):
        read_netx(SLAYER / "conv.net", num_layers=layers)


@pytest.mark.parametrize("shape", [(), (2, 3), (0, 2, 2), (1.0, 2, 2), (1 << 9, 1 << 9, 1 << 9), (True,)])
def test_an_input_shape_that_is_none_is_refused(shape: Any) -> None:
    with pytest.raises(InvalidFile, match="input_shape is"):
        read_netx(SLAYER / "conv.net", input_shape=shape)


def test_an_input_shape_must_be_that_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "n.net", entry(1, 3, 3), conv(KERNEL, (2, 2, 2)))
    assert read_netx(path, input_shape=(1, 3, 3))["input"].shape == (1, 3, 3)
    with pytest.raises(InvalidFile, match=r"layer/0/shape is \(1, 3, 3\), but input_shape is \(1, 4, 3\)"):
        read_netx(path, input_shape=(1, 4, 3))


# --- what netx makes of weights ---------------------------------------------------------------------------------------


@pytest.mark.lava
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # Lava divides by a largest weight of zero
def test_weights_are_stored_as_lava_stores_them(capfd: pytest.CaptureFixture[str]) -> None:
    """lava-dl's shift and lava-nc's clipping and cutting, over matrices of every sign, size and power of two."""
    shift_by = lava_module("lava-dl", "lava/lib/dl/netx/utils.py").optimize_weight_bits
    utils = lava_module("lava-nc", "lava/utils/weightutils.py")
    rng = np.random.default_rng(0)
    refused = changed = 0
    for _ in range(3000):
        parts = tuple(random_matrix(rng, columns) for columns in (3, 2)[: int(rng.integers(1, 3))])
        try:
            ours = stored_by_netx(*parts)
        except QuantizationError:
            refused += 1
            continue
        whole, bits, exponent, _ = shift_by(np.hstack(parts))
        for stored, part, first in zip(ours, parts, (0, 3), strict=False):
            theirs = whole[:, first : first + part.shape[1]].astype(np.int32)
            mode = utils.determine_sign_mode(theirs)
            theirs = utils.truncate_weights(utils.clip_weights(theirs, mode, num_bits=8), mode, bits)
            np.testing.assert_array_equal(stored.mantissa, theirs)
            assert stored.shift == -exponent
            changed += not np.array_equal(stored.mantissa, part << stored.shift)
    assert 100 < refused < 1500
    assert changed > 100
    capfd.readouterr()


def random_matrix(rng: np.random.Generator, columns: int) -> Array:
    top = int(rng.choice([1, 2, 3, 31, 32, 64, 127, 128, 129, 200, 254, 255, 256, 300]))
    low, high = ((-top, top), (0, top), (-top, 0))[int(rng.integers(3))]
    values = rng.integers(low, high + 1, (2, columns)) * int(rng.choice([1, 1, 2]))
    if rng.random() < 0.2:
        values[0, 0] = -(2 ** int(rng.integers(0, 9)))
    return values


def test_weights_worked_by_hand() -> None:
    """−128 alone in sign: shifted to −256, clipped to −255, one bit cut: −254, or −127 as a weight."""
    assert stored_by_netx(np.array([[-128, -3]]))[0].effective.tolist() == [[-127, -3]]
    assert stored_by_netx(np.array([[-128, 3]]))[0].effective.tolist() == [[-128, 3]]
    assert stored_by_netx(np.array([[255, 1]]))[0].effective.tolist() == [[255, 1]]
    assert stored_by_netx(np.array([[129, -1]]))[0].effective.tolist() == [[129, -1]]
    with pytest.raises(QuantizationError, match="halve sums"):
        _ = [s.effective for s in stored_by_netx(np.array([[1]]), np.array([[-128]]))]
    with pytest.raises(QuantizationError, match="zero"):
        stored_by_netx(np.zeros((2, 2), np.int64))


# --- what is refused --------------------------------------------------------------------------------------------------

KERNEL = some(2, 2, 1, 2, 2)
FOUR = some(0, 4, 4)


def neurons(**entries: Any) -> dict[str, Any]:
    """A dense layer with other neurons."""
    return dense(FOUR, neuron=CUBA | entries)


#: (layers, kind of error, what the message says)
REFUSED: dict[str, tuple[list[dict[str, Any]], type[HardwareTargetError], str]] = {
    "pool": ([entry(1, 3, 3), {"type": named("pool")}], UnsupportedModel, "layer/1 is of type 'pool'.*not implement"),
    "average": ([entry(4), {"type": named("average")}], UnsupportedModel, "'average'.*not implement"),
    "unknown type": ([entry(4), {"type": named("densee")}], UnsupportedModel, "'densee'.*skip"),
    "no layer": ([entry(4)], UnsupportedModel, "no layer of neurons"),
    "input twice": ([entry(4), entry(4)], UnsupportedModel, "input in the middle"),
    "input neurons": (
        [entry(4) | {"neuron": CUBA | {"iDecay": 2048}}, dense(FOUR)],
        UnsupportedModel,
        "iDecay is 2048.*lasts one step",
    ),
    "sigma-delta": ([entry(4), neurons(type="SDNN")], UnsupportedModel, "'SDNN'.*CUBA"),
    "adaptive": ([entry(4), neurons(type="ALIF")], UnsupportedModel, "'ALIF'"),
    "message bits": (
        [entry(4), neurons(messageBits=8)],
        UnsupportedModel,
        "messageBits",
    ),
    "refractory": (
        [entry(4), neurons(refDelay=2)],
        UnsupportedModel,
        "refractory.*lossy",
    ),
    "graded spikes": (
        [entry(4), neurons(gradedSpike=True)],
        UnsupportedModel,
        "graded",
    ),
    "unknown entry": ([entry(4), dense(FOUR, mask=1)], UnsupportedModel, "'mask'.*ignores"),
    "complex": ([entry(4), dense(FOUR, weight={"real": 1})], UnsupportedModel, "complex"),
    "conv delay": ([entry(1, 3, 3), conv(KERNEL, (2, 2, 2), delay=2)], UnsupportedModel, "delays of conv"),
    "fractions": ([entry(4), dense(FOUR + 0.5)], UnsupportedModel, "16 of 16 values have fractions"),
    "long delays": ([entry(4), dense(FOUR, delay=63)], UnsupportedModel, "63 steps.*clamp to 62"),
    "clipped weights": ([entry(4), dense(some(0, 4, 4, low=-300, high=400))], UnsupportedModel, "other values"),
    "zero weights": ([entry(4), dense(np.zeros((4, 4)))], QuantizationError, "all 16 weights.*zero"),
    "too large": ([entry(4), dense(np.full((4, 4), 256))], QuantizationError, "256 … 256, beyond the 8 bits"),
    "negative delay": ([entry(4), dense(FOUR, delay=-1)], InvalidFile, "-1, expected 0"),
    "delays of a stranger": (
        [entry(4), dense(FOUR, delay=np.zeros(3))],
        InvalidFile,
        r"delay has shape \(3,\)",
    ),
    "bias of a stranger": ([entry(4), dense(FOUR, bias=np.zeros(3))], InvalidFile, r"bias has shape \(3,\)"),
    "large bias": ([entry(4), dense(FOUR, bias=np.full(4, 40_000))], InvalidFile, "40000, beyond the 16 bits"),
    "no flatten": ([entry(1, 3, 3), conv(KERNEL, (2, 2, 2)), dense(some(0, 4, 8))], InvalidFile, "needs a flatten"),
    "flatten for nothing": (
        [entry(4), dense(FOUR), FLATTEN, dense(FOUR)],
        InvalidFile,
        "flatten without a grid",
    ),
    "conv of nothing": ([conv(KERNEL, (2, 2, 2))], InvalidFile, r"but has nothing: pass input_shape"),
    "conv of a vector": ([entry(4), conv(KERNEL, (2, 2, 2))], InvalidFile, "but has a flat vector"),
    "conv without input": ([conv(KERNEL, (2, 2, 2))], InvalidFile, "needs .channels, height, width. before it"),
    "wrong shape": ([entry(1, 3, 3), conv(KERNEL, (2, 3, 3))], InvalidFile, r"gives \(2, 2, 2\)"),
    "no groups": ([entry(1, 3, 3), conv(KERNEL, (2, 2, 2), groups=None)], InvalidFile, "layer/1/groups is missing"),
    "zero stride": ([entry(1, 3, 3), conv(KERNEL, (2, 2, 2), stride=0)], InvalidFile, "stride is"),
    "channels": ([entry(2, 3, 3), conv(KERNEL, (2, 2, 2))], InvalidFile, "reads 1 channels in 1 groups.*has 2"),
    "size before": ([entry(5), dense(FOUR)], InvalidFile, r"reads 4 values, but input \(5,\) has 5"),
    "features": ([entry(4), dense(FOUR, inFeatures=9)], InvalidFile, "inFeatures says 9"),
    "no neuron in conv": ([entry(1, 3, 3), conv(KERNEL, (2, 2, 2), neuron=None)], InvalidFile, "neuron is missing"),
    "no threshold": (
        [entry(4), neurons(vThMant=None)],
        InvalidFile,
        "vThMant is missing",
    ),
    "decay": ([entry(4), neurons(vDecay=4097)], InvalidFile, "vDecay is 4097"),
    "threshold": ([entry(4), neurons(vThMant=-1)], InvalidFile, "vThMant is -1"),
    "loop of a stranger": (
        [entry(4), dense(FOUR, type=named("dense_rec"), weight_rec=some(0, 4, 3))],
        InvalidFile,
        "weight_rec",
    ),
    "loop delays": (
        [entry(3), dense(some(0, 4, 3), type=named("dense_rec"), weight_rec=FOUR, delay=1)],
        InvalidFile,
        "as many inputs as neurons; got 3 and 4",
    ),
    "no shape": ([entry(4), dense(FOUR, shape=None)], InvalidFile, "layer/1/shape is missing"),
    "no type": ([entry(4), dense(FOUR, type=None)], InvalidFile, "layer/1/type is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_loader_refuses_skips_or_changes_is_refused_by_name(name: str, tmp_path: Path) -> None:
    layers, kind, says = REFUSED[name]
    path = write(tmp_path / "bad.net", *layers)
    with pytest.raises(kind, match=says) as caught:
        read_netx(path)
    assert "bad.net" in str(caught.value) or kind is QuantizationError
    assert "\n" not in str(caught.value)


def test_files_of_lava_dl_that_cannot_be_read_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match="pool"):
        read_netx(SLAYER / "pool.net")
    with pytest.raises(UnsupportedModel, match="complex"):
        read_netx(SLAYER / "resonator.net")
    with pytest.raises(UnsupportedModel, match=r"recurrent layer with delays 2 times"):
        read_netx(SLAYER / "recurrent_delay.net")


def test_the_command_line_maps_a_file_and_refuses_a_bad_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.npz"
    assert main(["map", str(SLAYER / "recurrent.net"), "--chip", "loihi1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    with h5py.File(SLAYER / "recurrent.net", "r") as file:
        loops = np.count_nonzero(file["layer/2/weight"][()]) + np.count_nonzero(file["layer/2/weight_rec"][()])
    assert [line.split() for line in printed.splitlines() if line.startswith("dense2")] == [
        ["dense2", "8", str(loops), "1"]
    ]
    assert set(np.load(out).files) >= {"dense1", "dense2", "dense3"}
    assert main(["map", str(SLAYER / "pool.net"), "--out", str(tmp_path / "q.npz")]) == 2
    assert "'pool'" in capsys.readouterr().err
    assert not (tmp_path / "q.npz").exists()
    assert main(["verify", str(tmp_path / "none.net")]) == 2
    assert "cannot be opened" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "value"), [("time_steps", 0), ("input_message_bits", 25), ("input_message_bits", -1)])
def test_settings_out_of_range_are_refused(key: str, value: int, tmp_path: Path) -> None:
    layers = [entry(4), dense(FOUR)]
    with pytest.raises(InvalidFile, match=f"{key} is {value}"):
        read_netx(write(tmp_path / "a.net", *layers, **{key: value}))
    call: Callable[..., ChipNetwork] = read_netx
    with pytest.raises(InvalidFile, match=f"{key} is {value}"):
        call(write(tmp_path / "b.net", *layers), **{key: value})


def assert_read_back(network: ChipNetwork, folder: Path) -> None:
    """Relays and all: written again, nothing has changed."""
    export_netx(network, folder / "a.net")
    export_netx(read_netx(folder / "a.net"), folder / "b.net")
    with h5py.File(folder / "a.net") as first, h5py.File(folder / "b.net") as second:
        names: list[str] = []
        first.visit(names.append)
        for name in names:  # one by one, since they may be large
            assert name in second
            if isinstance(first[name], h5py.Dataset):
                np.testing.assert_array_equal(second[name][()], first[name][()], err_msg=name)


def test_layers_of_relays_are_read_however_many_zeros_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what any file may hold, for the bytes that the file has."""
    monkeypatch.setattr("hw_targets.files.hdf5.MAX_NUMBERS", 1)
    assert_read_back(quantize(sew(0), load_chip("loihi1"), for_format="netx"), tmp_path)


@pytest.mark.slow
def test_a_sew_resnet_on_large_images_is_read_back(tmp_path: Path) -> None:
    """144 million numbers, most of them zero, in 12 MB."""
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.model.sew_resnet import sew_resnet18

    model = sew_resnet18(cnf="ADD", spiking_neuron=neuron.IFNode).eval()
    functional.set_step_mode(model, "m")
    network = from_torch(model, torch.rand(4, 1, 3, 224, 224))
    assert_read_back(quantize(network, load_chip("loihi1"), for_format="netx"), tmp_path)


def test_how_long_a_sample_lasts_is_known_or_said_to_be_unknown(tmp_path: Path) -> None:
    unknown, known = read_netx(SLAYER / "conv.net"), read_netx(SLAYER / "conv.net", time_steps=5)
    assert unknown.steps_assumed
    assert not known.steps_assumed
    with h5py.File(SLAYER / "conv.net") as file:
        assert "time_steps" not in file.attrs
    export_netx(unknown, tmp_path / "unknown.net")
    assert read_netx(tmp_path / "unknown.net").steps_assumed, "an export does not make it known"
    export_netx(known, tmp_path / "known.net")
    assert (again := read_netx(tmp_path / "known.net")).time_steps == 5
    assert not again.steps_assumed
