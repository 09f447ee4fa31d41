"""Files as strangers may send them: every reader gives a value or an error of its own, soon and in little memory."""

from __future__ import annotations

import json
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from examples.benchmarks.strangers.readers import Reader, good_are_read, readers
from examples.benchmarks.strangers.trial import Trials, trial
from hw_targets import from_nir, load_chip, place, read_netx
from hw_targets.errors import InvalidChip, InvalidFile, InvalidNetwork, UnsupportedModel
from hw_targets.files.heap_text import HeapTexts
from hw_targets.ir.network import Accumulator, ChipNetwork, Dense, Population, SpikeInput, Synapses
from hw_targets.targets.loihi.neuron import CubaLIF
from hw_targets.targets.saved_placements import load_placement
from neuroprune.training.recipe import load_recipe
from neuroprune.training.toml import InvalidRecipe

NETX = Path(__file__).parents[2] / "data" / "netx" / "recurrent.net"
FILES = 500


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return readers(tmp_path_factory.mktemp("good"))


def test_the_files_that_are_changed_are_good(found: Mapping[str, Reader], tmp_path: Path) -> None:
    assert good_are_read(found, tmp_path) == []
    assert all(reader.good for reader in found.values())


def test_changed_files_give_a_value_or_the_readers_own_error(found: Mapping[str, Reader], tmp_path: Path) -> None:
    trials = Trials()
    for seed in range(FILES):
        trial(seed, found, tmp_path, trials)
    assert not trials.faults, json.dumps(trials.faults, indent=1)
    counts = trials.outcomes
    assert sum(counts.values()) == FILES
    # Changes that were always refused would not reach far into a reader.
    groups = {name.split()[0].rstrip(",") for name in found}
    assert all(counts[f"{group}: value"] and counts[f"{group}: refused"] for group in groups), counts


def fails(path: Path) -> Any:
    raise KeyError(str(path))


def grows(_: Path) -> float:
    return float(np.ones(1 << 24).sum())


def works(_: Path) -> float:
    begin = time.process_time()
    while time.process_time() - begin < 0.2:
        pass
    return 0.0


@pytest.mark.parametrize(("read", "says"), [(fails, "KeyError"), (grows, "took 0.1 GiB"), (works, "took 0.2 s")])
def test_a_fault_is_noticed(
    read: Callable[[Path], Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if read is grows and not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("peak memory is read from Linux's /proc")
    monkeypatch.setattr("examples.benchmarks.strangers.trial.BYTES", 1 << 26)
    monkeypatch.setattr("examples.benchmarks.strangers.trial.SECONDS", 0.15)
    trials = Trials()
    trial(0, {"a": Reader(read, (InvalidFile,), {"x": b"12"}, lambda data, _p, _r: data)}, tmp_path, trials)
    assert len(trials.faults) == 1
    assert says in trials.faults[0]["fault"]
    assert trials.outcomes == {"a: fault": 1}


# --- what was found ---------------------------------------------------------------------------------------------------


def test_a_small_file_of_many_input_neurons_takes_no_square_of_them(tmp_path: Path) -> None:
    path = tmp_path / "n.net"
    with h5py.File(path, "w") as file:
        group = file.create_group("layer/0")
        group["type"], group["shape"] = np.array([b"input"]), np.array([44_000])
        cuba = {"iDecay": 4096, "vDecay": 0, "vThMant": 8}
        for key, value in {"type": np.array([b"CUBA"]), **cuba}.items():
            group[f"neuron/{key}"] = value
    with pytest.raises(UnsupportedModel, match=r"44,000 neurons.*1,936,000,000 numbers.*shape \(neurons, 1, 1\)"):
        read_netx(path)


def heap(path: Path, objects: int) -> None:
    """A collection of empty objects, all of number 1 but the last, and a reference to that."""
    body = b"".join(struct.pack("<HHIQ", 2 if i == objects - 1 else 1, 1, 0, 0) for i in range(objects))
    header = struct.pack("<4sB3xQ", b"GCOL", 1, 16 + len(body))
    path.write_bytes(struct.pack("<IQI", 0, 16, 2) + header + body)


def test_a_heap_is_searched_once_for_all_its_names(tmp_path: Path) -> None:
    heap(tmp_path / "h", 60_000)
    texts = HeapTexts(str(tmp_path / "h"), 0)
    begin = time.perf_counter()
    assert all(texts.text(0, 64) == b"" for _ in range(300))
    assert time.perf_counter() - begin < 2
    assert texts.objects == 60_000


def test_heaps_of_more_names_than_are_searched_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heap(tmp_path / "h", 600)
    monkeypatch.setattr("hw_targets.files.heap_text.MAX_OBJECTS", 1000)
    texts = HeapTexts(str(tmp_path / "h"), 0)
    assert texts.text(0, 64) == b""
    texts.known.clear()
    with pytest.raises(ValueError, match="more than 1000 names"):
        texts.text(0, 64)


def two_layers() -> ChipNetwork:
    populations = (
        Population("in", (3,), SpikeInput()),
        Population("n", (4,), CubaLIF(9)),
        Population("out", (2,), Accumulator()),
    )
    synapses = (
        Synapses("in", "n", Dense(np.full((4, 3), 9, np.int32))),
        Synapses("n", "out", Dense(np.full((2, 4), 9, np.int32))),
    )
    return ChipNetwork(populations, synapses, chip="loihi1")


def rewritten(path: Path, **changed: bytes) -> None:
    """A saved placement with other members."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in {**members, **{f"{k}.npy": v for k, v in changed.items()}}.items():
            new.writestr(name, content)


def npy(header: str) -> bytes:
    """A .npy of version 1 that holds nothing but a header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"n": b""}, "cannot be read as an .npz"),
        ({"n": bytes(200)}, "cannot be read as an .npz"),
        ({"n": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,)}")}, "expected int32"),
        ({"n": npy("{'descr': '<i4', 'fortran_order': False, 'shape': (4,)}")}, "holds 0 bytes for 4 neurons"),
        ({"n": npy("{'descr': [('a', ")}, "broken .npy header"),
        ({"n": npy("(" * 500)}, "broken .npy header"),
        ({"foreign": bytes(100_000_000)}, "places 3 populations .*belongs to another network"),
    ],
)
def test_members_of_a_placement_are_looked_at_before_they_are_unpacked(
    changed: dict[str, bytes], says: str, tmp_path: Path
) -> None:
    network, path = two_layers(), tmp_path / "p.npz"
    place(network, load_chip("loihi1")).save(path)
    rewritten(path, **changed)
    with pytest.raises(InvalidFile, match=says):
        load_placement(path, network)


@pytest.mark.parametrize("spoil", [(6, b"\x01"), (8, b"\x0e\x00"), (8, b"\x63\x00")], ids=["locked", "lzma", "unknown"])
def test_a_placement_packed_in_another_way_is_refused(spoil: tuple[int, bytes], tmp_path: Path) -> None:
    network, path = two_layers(), tmp_path / "p.npz"
    place(network, load_chip("loihi1")).save(path)
    data, (at, new) = bytearray(path.read_bytes()), spoil
    for sign, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        begin = data.index(sign) + at + shift
        data[begin : begin + len(new)] = new
    path.write_bytes(bytes(data))
    with pytest.raises(InvalidFile, match="encrypted or packed in another way"):
        load_placement(path, network)


LONG = {"deep": "a = " + "[" * 5000 + "]" * 5000, "digits": "a = " + "9" * 5000, "hexadecimal": "a = 0x" + "f" * 5000}


@pytest.mark.parametrize("name", LONG)
def test_toml_that_python_cannot_hold_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(LONG[name])
    with pytest.raises(InvalidRecipe, match=r"x\.toml is not valid TOML"):
        load_recipe(path)
    path.write_text("name = 'x'\n[facts]\ncores_per_chip = { source = 's', value = " + LONG[name][4:] + "}")
    with pytest.raises(InvalidChip, match=r"x\.toml"):
        load_chip(path)


METADATA: dict[str, Any] = {
    "time_steps": 1 << 40,
    "strict": 7,
    "unit": 0,
    "bits": 1 << 40,
    "max_spikes": 0,
    "dt": -1.0,
    "scale": 0.0,
    "reset_delay": 0.5,
    "withholds": 2,
}


@pytest.mark.parametrize("key", METADATA)
def test_metadata_of_a_nir_file_are_checked(key: str, tmp_path: Path, found: Mapping[str, Reader]) -> None:
    path = tmp_path / "n.nir"
    path.write_bytes(next(iter(found["from_nir"].good.values())))
    with h5py.File(path, "r+") as file:
        where = "node/metadata" if key in ("time_steps", "dt") else "node/nodes/input/metadata"
        if f"{where}/{key}" in file:
            del file[f"{where}/{key}"]
        file[f"{where}/{key}"] = METADATA[key]
    with pytest.raises(InvalidNetwork, match=f"metadata {key} is .*expected a"):
        from_nir(path)


def ones(path: Path, where: str, kind: str, numbers: int, **more: Any) -> Path:
    """A file that gzip makes a thousand times smaller than what it declares."""
    with h5py.File(path, "w") as file:
        rows = numbers // 1024
        data = file.create_dataset(f"{where}/weight", (rows, 1024), kind, chunks=(1024, 1024), compression="gzip")
        packed = zlib.compress(np.ones(1 << 20, kind).tobytes())
        for row in range(0, rows, 1024):
            data.id.write_direct_chunk((row, 0), packed)
        for key, value in more.items():
            file[f"{where}/{key}"] = value
    return path


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("kind", ["i1", "f8"])
def test_what_gzip_made_small_takes_no_more_than_a_gibibyte(kind: str, tmp_path: Path) -> None:
    """The most that is read of a small file, and one row more, in netx and in NIR."""
    largest = (1 << 25) // (1 if kind == "i1" else 4)
    trials = Trials()
    for numbers in (largest - 1024, largest + 1024):
        names = {"type": np.array([b"dense"]), "shape": np.array([numbers // 1024])}
        net = ones(tmp_path / "n.net", "layer/0", kind, numbers, **names)
        assert net.stat().st_size < 2_000_000
        reader = Reader(read_netx, (ValueError,), {"x": net.read_bytes()}, lambda data, _p, _r: data, ".net")
        trial(0, {"read_netx": reader}, tmp_path, trials)
    assert not trials.faults
    assert trials.outcomes == {"read_netx: value": 1, "read_netx: refused": 1}
    assert trials.largest > 1 << 25
    with pytest.raises(InvalidFile, match=rf"declares {largest + 1024:,} numbers"):
        read_netx(tmp_path / "n.net")
    node = {"type": b"Linear", "x": 0}
    path = ones(tmp_path / "n.nir", "node/nodes/fc", "f4", (1 << 24) + 1024, **node)
    with h5py.File(path, "r+") as file:
        file["node/type"] = b"NIRGraph"
        file["node"].create_dataset("edges", data=np.zeros((0, 2)))
    with pytest.raises(InvalidFile, match=r"fc/weight declares 16,778,240 numbers.*without compression"):
        from_nir(path, time_steps=1)


@pytest.mark.parametrize("key", ["start_dim", "end_dim", "groups"])
@pytest.mark.parametrize("size", [0, 2])
def test_single_numbers_of_a_nir_file_are_single(
    key: str, size: int, tmp_path: Path, found: Mapping[str, Reader]
) -> None:
    kinds = {"groups": b"Conv2d"}
    path = tmp_path / "n.nir"
    for good in found["from_nir"].good.values():
        path.write_bytes(good)
        with h5py.File(path, "r+") as file:
            nodes = file["node/nodes"]
            names = [n for n in nodes if nodes[n]["type"][()] == kinds.get(key, b"Flatten")]
            if names:
                del nodes[names[0]][key]
                nodes[names[0]][key] = np.zeros(size, np.int64)
                break
    with pytest.raises(UnsupportedModel, match=rf"from_nir: {names[0]} .*has {key} \(.*expected one whole number"):
        from_nir(path)
