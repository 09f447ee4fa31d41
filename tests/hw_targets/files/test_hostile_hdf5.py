"""netx files made to harm: whatever is in them, one clear error, soon, without much memory, touching no other file."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_targets import read_netx
from hw_targets.errors import HardwareTargetError, InvalidFile
from hw_targets.ir.network import ChipNetwork

ROOT = Path(__file__).resolve().parents[3]
GOOD = Path(__file__).parents[2] / "data" / "netx" / "recurrent.net"
Change = Callable[[h5py.File, Path], Any]


def replaced(key: str, **how: Any) -> Change:
    """Another dataset in the place of `key`."""

    def change(file: h5py.File, _: Path) -> None:
        del file[key]
        file.create_dataset(key, **how)

    return change


def external(file: h5py.File, secret: Path) -> None:
    del file["layer/1/weight"]
    file.create_dataset("layer/1/weight", (8, 7), "i1", external=[(str(secret), 0, 56)])


def virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((8, 7), "i8")
    layout[...] = h5py.VirtualSource(str(secret), "data", (8, 7))
    del file["layer/1/weight"]
    file.create_virtual_dataset("layer/1/weight", layout)


def linked(link: Callable[[Path], Any], key: str = "layer/1/weight") -> Change:
    def change(file: h5py.File, secret: Path) -> None:
        del file[key]
        file[key] = link(secret)

    return change


def loop(file: h5py.File, _: Path) -> None:
    """A group inside itself."""
    del file["layer/1/neuron"]
    file["layer/1/neuron"] = file["layer/1"]


def bomb(file: h5py.File, _: Path) -> None:
    """One chunk that declares half a megabyte and unpacks to 50."""
    del file["layer/1/weight"]
    options = {"maxshape": (None, None), "chunks": (256, 256), "compression": "gzip"}
    data = file.create_dataset("layer/1/weight", (8, 7), "i8", **options)
    data.id.write_direct_chunk((0, 0), zlib.compress(bytes(50_000_000), 9))


def small_bomb(file: h5py.File, _: Path) -> None:
    """A chunk far longer in the file than what it declares."""
    del file["layer/1/weight"]
    data = file.create_dataset("layer/1/weight", (8, 7), "i8", chunks=(8, 7), compression="gzip")
    data.id.write_direct_chunk((0, 0), zlib.compress(bytes(5_000_000), 9))


def half_written(file: h5py.File, _: Path) -> None:
    del file["layer/1/weight"]
    data = file.create_dataset("layer/1/weight", (8, 7), "i8", chunks=(4, 7))
    data[:4] = 1


def references(file: h5py.File, secret: Path) -> None:
    replaced("layer/1/weight", data=np.array([file.ref] * 56, h5py.ref_dtype))(file, secret)


def crowd(file: h5py.File, _: Path) -> None:
    for i in range(3000):
        file.create_group(f"layer/1/neuron/x{i}")


NAN = np.full((8, 7), np.nan)
#: change, what the message says
HOSTILE: dict[str, tuple[Change, str]] = {
    "external storage": (external, "other files"),
    "virtual": (virtual, "other files"),
    "external link": (linked(lambda p: h5py.ExternalLink(str(p), "/data")), "not followed"),
    "external layer": (linked(lambda p: h5py.ExternalLink(str(p), "/"), "layer/1"), "not followed"),
    "soft link": (linked(lambda _: h5py.SoftLink("/layer/3/weight")), "not followed"),
    "dangling link": (linked(lambda _: h5py.SoftLink("/nowhere")), "not followed"),
    "group in itself": (loop, "vDecay is missing|type|expected|vThMant|neuron"),
    "10^12 numbers": (
        replaced("layer/1/weight", shape=(10**6, 10**6), dtype="f8", chunks=(64, 64)),
        "1,000,000,000,000 numbers",
    ),
    "512 MB in a chunk": (
        replaced("layer/1/weight", shape=(8, 7), maxshape=(None, None), dtype="f8", chunks=(8192, 8192)),
        "1 chunks of 536,870,912 bytes",
    ),
    "many chunks": (replaced("layer/1/weight", shape=(8, 10**6), dtype="i1", chunks=(1, 1)), "chunks"),
    "never written": (replaced("layer/1/weight", shape=(8, 7), dtype="f8"), "none were ever written"),
    "half written": (half_written, "declares 2 chunks, 1 were written"),
    "bomb": (bomb, "does not unpack to the 524288 bytes"),
    "small bomb": (small_bomb, "a chunk of 448 bytes takes"),
    "unknown filter": (replaced("layer/1/weight", data=np.ones((8, 7)), chunks=(8, 7), scaleoffset=2), "filters"),
    "checksums": (replaced("layer/1/weight", data=np.ones((8, 7)), chunks=(8, 7), fletcher32=True), "filters"),
    "NaN": (replaced("layer/1/weight", data=NAN), "56 of 56 values are NaN or infinite"),
    "infinite threshold": (replaced("layer/1/neuron/vThMant", data=np.inf), "NaN or infinite"),
    "text for a number": (replaced("layer/1/neuron/vThMant", data="eighty"), "holds text, expected numbers"),
    "text for weights": (replaced("layer/1/weight", data=np.array([b"a"])), "holds text"),
    "number for a name": (replaced("layer/1/type", data=3), "expected one name"),
    "long name": (replaced("layer/1/type", data="d" * 10_000), "a name of 10000 characters"),
    "names": (replaced("layer/1/type", data=np.array([b"dense", b"conv"])), "expected one name"),
    "complex": (replaced("layer/1/weight", data=np.ones((8, 7), complex)), "complex128"),
    "references": (references, "references"),
    "records": (replaced("layer/1/weight", data=np.zeros((8, 7), [("a", "i4")])), "expected numbers"),
    "lists": (replaced("layer/1/weight", shape=(8,), dtype=h5py.vlen_dtype("i4")), "object|expected numbers"),
    "no extent": (replaced("layer/1/weight", data=h5py.Empty("f8")), "shape None"),
    "empty": (replaced("layer/1/weight", data=np.zeros((8, 0))), r"\(8, 0\)"),
    "many dimensions": (replaced("layer/1/weight", data=np.zeros((1,) * 9)), "up to 5 dimensions"),
    "huge numbers": (replaced("layer/1/weight", data=np.full((8, 7), 1e300)), "beyond 32 bits"),
    "negative shape": (replaced("layer/1/shape", data=np.array([-8])), r"\[-8\]"),
    "huge shape": (replaced("layer/1/shape", data=np.array([2**30])), "more than 16,777,216 neurons"),
    "huge grid": (replaced("layer/0/shape", data=np.array([2**20, 2**20, 2**20])), "more than 16,777,216 neurons"),
    "zero shape": (replaced("layer/1/shape", data=np.array([0])), r"\[0\]"),
    "group for a number": (
        lambda f, _: (f.pop("layer/1/shape"), f.create_group("layer/1/shape")),
        "expected a dataset",
    ),
    "number for a group": (replaced("layer/1/neuron", data=1), "expected a group"),
    "number for layers": (lambda f, _: (f.pop("layer"), f.create_dataset("layer", data=1)), "expected a group"),
    "no layers": (lambda f, _: f.pop("layer"), "layer is missing"),
    "gap": (lambda f, _: f.move("layer/2", "layer/7"), "without gaps"),
    "odd layer": (lambda f, _: f.create_group("layer/x"), "without gaps"),
    "a name that is no text": (lambda f, _: h5py.h5g.create(f["layer/1/neuron"].id, b"\xff\xfe"), "is damaged"),
    "crowd": (crowd, "at most 1024"),
    "text for steps": (lambda f, _: f.attrs.create("time_steps", "six"), "must be one whole number"),
    "many steps": (lambda f, _: f.attrs.create("time_steps", 2**40), "time_steps is 1099511627776"),
    "array of steps": (lambda f, _: f.attrs.create("time_steps", np.arange(9)), "must be one whole number"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_clear_error_soon_and_nothing_else_is_touched(name: str, tmp_path: Path) -> None:
    change, says = HOSTILE[name]
    secret, path = tmp_path / "secret.h5", tmp_path / "bad.net"
    with h5py.File(secret, "w") as file:
        file["data"] = np.arange(56).reshape(8, 7)
    path.write_bytes(GOOD.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file, secret)
    os.utime(secret, (1, 1))
    before, begin = path.read_bytes(), time.perf_counter()
    with pytest.raises(HardwareTargetError, match=says) as caught:
        read_netx(path)
    assert time.perf_counter() - begin < 2
    assert "bad.net" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert secret.stat().st_atime == 1, "the other file was read"
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"bad.net", "secret.h5"}


def test_the_file_that_is_spoiled_above_is_good_and_gzip_is_read(tmp_path: Path) -> None:
    before = read_netx(GOOD)
    path = tmp_path / "zip.net"
    path.write_bytes(GOOD.read_bytes())
    with h5py.File(path, "r+") as file:
        weight = file["layer/1/weight"][()]
        replaced("layer/1/weight", data=weight, chunks=(3, 5), compression="gzip", shuffle=True)(file, path)
        weight = file["layer/3/weight"][()]
        replaced("layer/3/weight", data=weight, chunks=(4, 8))(file, path)
    for ours, theirs in zip(read_netx(path).synapses, before.synapses, strict=True):
        np.testing.assert_array_equal(ours.op.weight, theirs.op.weight)


@pytest.mark.parametrize("size", [0, 1, 8, 100, 2000, 9000, 18_000])
def test_truncated_files(size: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.net"
    path.write_bytes(GOOD.read_bytes()[:size])
    with pytest.raises(InvalidFile, match=r"cut\.net is no HDF5 file, or a truncated one"):
        read_netx(path)


@pytest.mark.parametrize("object_size", [0, 1, 2**63])
def test_a_damaged_heap_of_names_ends_the_search(object_size: int, tmp_path: Path) -> None:
    """HDF5 itself looks for a name in such a heap for ever."""
    data = bytearray(GOOD.read_bytes())
    heap = data.index(b"GCOL")
    assert data[heap + 32 : heap + 36] == b"CUBA"
    data[heap + 24 : heap + 32] = object_size.to_bytes(8, "little")
    (tmp_path / "heap.net").write_bytes(bytes(data))
    with pytest.raises(InvalidFile, match=r"neuron/type cannot be read"):
        read_netx(tmp_path / "heap.net")


def test_names_of_either_length_after_a_user_block(tmp_path: Path) -> None:
    """A file may begin with bytes of another program, which HDF5's addresses do not count."""
    path = tmp_path / "block.net"
    with h5py.File(path, "w", userblock_size=1024) as file, h5py.File(GOOD, "r") as good:
        good.copy("layer", file)
        replaced("layer/1/type", data=np.array([b"dense"]))(file, path)
        replaced("layer/3/type", data="dense")(file, path)
    for ours, theirs in zip(read_netx(path).synapses, read_netx(GOOD).synapses, strict=True):
        np.testing.assert_array_equal(ours.op.weight, theirs.op.weight)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"none\.net cannot be opened"):
        read_netx(tmp_path / "none.net")
    with pytest.raises(InvalidFile, match="no regular file"):
        read_netx(tmp_path)
    os.mkfifo(tmp_path / "pipe.net")
    with pytest.raises(InvalidFile, match="no regular file"):
        read_netx(tmp_path / "pipe.net")
    (tmp_path / "text.net").write_text("layer: 1")
    with pytest.raises(InvalidFile, match="no HDF5 file"):
        read_netx(tmp_path / "text.net")
    with pytest.raises(InvalidFile, match="cannot be opened"):
        read_netx("a\0b.net")


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_flipped_bytes_never_crash(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A network or a clear error; a damaged number may well be a valid one."""
    rng = random.Random(seed)
    data = bytearray(GOOD.read_bytes())
    for _ in range(rng.randint(1, 12)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path = tmp_path_factory.getbasetemp() / "flipped.net"
    path.write_bytes(bytes(data))
    try:
        network = read_netx(path)
    except HardwareTargetError:
        return
    assert isinstance(network, ChipNetwork)


def zeros_in_gzip(path: Path, numbers: int) -> None:
    """A good file but for a weight of 7 columns and many rows, all zero."""
    path.write_bytes(GOOD.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["layer/1/weight"]
        how: dict[str, Any] = {"chunks": (10_000, 7), "compression": "gzip", "fillvalue": 1}
        file.create_dataset("layer/1/weight", data=np.zeros((numbers // 7, 7), np.int8), **how)


def test_a_long_file_may_hold_more_numbers_than_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 a byte, as relays leave in layers of residual networks, up to a limit; any number for those who ask."""
    monkeypatch.setattr("hw_targets.files.hdf5.MAX_NUMBERS", 1000)
    path = tmp_path / "zeros.net"
    zeros_in_gzip(path, 7_000_000)
    size = path.stat().st_size
    assert 64 * size < 7_000_000
    limit = rf"of the {64 * size:,} that this file may hold.*max_numbers=(\d+)\) reads on"
    with pytest.raises(InvalidFile, match=limit) as caught:
        read_netx(path)
    asked = re.search(r"max_numbers=(\d+)", str(caught.value))
    assert asked is not None
    with pytest.raises(InvalidFile, match=r"layer/1/weight has shape \(1000000, 7\)"):
        read_netx(path, max_numbers=int(asked[1]))
    with pytest.raises(InvalidFile, match=r"declares 7,000,000"):
        read_netx(path, max_numbers=int(asked[1]) - 1)
    # The same numbers in a file as long as they deserve.
    with path.open("ab") as file:
        file.write(bytes(200_000))
    with pytest.raises(InvalidFile, match=r"layer/1/weight has shape"):
        read_netx(path)
    monkeypatch.setattr("hw_targets.files.hdf5.MOST_NUMBERS", 6_000_000)
    with pytest.raises(InvalidFile, match=r"of the 6,000,000 that this file may hold"):
        read_netx(path)


@pytest.mark.parametrize("asked", [0, -1, True, 1 << 40, 0.5])
def test_how_many_numbers_may_be_asked_for(asked: Any) -> None:
    with pytest.raises(InvalidFile, match=r"max_numbers is .*, expected 1 …"):
        read_netx(GOOD, max_numbers=asked)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_a_bomb_takes_little_memory(tmp_path: Path) -> None:
    """Peak memory of a process that reads one, against its peak after a good file."""
    path = tmp_path / "bomb.net"
    path.write_bytes(GOOD.read_bytes())
    with h5py.File(path, "r+") as file:
        bomb(file, path)
    script = f"""
        from pathlib import Path
        from hw_targets import read_netx
        peaks = []
        for path in ({str(GOOD)!r}, {str(path)!r}):
            try:
                read_netx(path)
            except ValueError:
                pass
            status = Path("/proc/self/status").read_text()
            peaks.append(int(status.partition("VmHWM:")[2].split()[0]))
        print(peaks[1] - peaks[0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert int(done.stdout) < 20_000  # kilobytes


def test_a_killed_export_leaves_the_old_file(tmp_path: Path) -> None:
    """The process dies inside the writing of the second of three layers."""
    path = tmp_path / "model.net"
    path.write_bytes(GOOD.read_bytes())
    script = f"""
        import os, signal
        from hw_targets import export_netx, read_netx
        from hw_targets.targets.loihi.netx import writer as netx
        write = netx._write_layer
        def dies(group, layer):
            write(group, layer)
            group.file.flush()
            if group.name == "/layer/2":
                os.kill(os.getpid(), signal.SIGKILL)
        netx._write_layer = dies
        export_netx(read_netx({str(path)!r}), {str(path)!r}, overwrite=True)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == GOOD.read_bytes()
    read_netx(path)
