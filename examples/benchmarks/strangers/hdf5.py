"""Changes of an HDF5 file's structure: its groups, datasets, links, types, shapes, numbers and names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

#: Names that netx and NIR files know, wherever they belong.
NAMES = (
    *("type", "shape", "weight", "weight_rec", "bias", "delay", "neuron", "iDecay", "vDecay", "vThMant", "refDelay"),
    *("gradedSpike", "stride", "padding", "dilation", "groups", "kernelSize", "inChannels", "outChannels", "layer"),
    *("inFeatures", "outFeatures", "tau", "tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    *("input_shape", "kernel_size", "start_dim", "end_dim", "scale", "edges", "metadata", "node", "nodes", "dt"),
    *("strict", "unit", "bits", "reset", "reset_delay", "max_spikes", "withholds", "name", "input_message_bits"),
    *("time_steps", "0", "1"),
)
KINDS = (
    *("input", "conv", "dense", "dense_rec", "flatten", "pool", "average", "CUBA", "ALIF", "LIF", "IF", "CubaLIF", "I"),
    *("LI", "CubaLI", "Threshold", "Delay", "Conv1d", "Conv2d", "Linear", "Affine", "SumPool2d", "AvgPool2d"),
    *("Scale", "Flatten", "NIRGraph", "Input", "Output", "zero", "subtract", "none", "same", "valid"),
    *("", "x" * 70, "é"),
)
NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 0.5, -0.5, 127, 128, 255, 256, 1e-30, 1e-5, 4096, 65_535, 65_536, 1 << 20, 1 << 24, 1e8, 1e9),
    *((1 << 31) - 1, 1 << 31, 1 << 40, (1 << 62) + 1, 1e18, 1e30, 1e308, -1e308, float("nan"), float("inf")),
)
TYPES = ("i1", "u1", "i2", "i4", "i8", "u8", "f2", "f4", "f8", "?", ">i4", ">f8")
#: Numbers of an array that is changed one by one.
MOST = 1 << 22
LENGTHS = (0, 1, 2, 3, 4, 5, 8, 64, 1000, 44_000, 1 << 20, 1 << 24, 1 << 31, 1 << 40)


def changed_hdf5(path: Path, rng: Random) -> None:
    """Change one to four things of the file at `path`; what HDF5 cannot do to it stays undone."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        with h5py.File(path, "r+") as file:
            found: list[str] = []
            file.visit(found.append)
            if not found:
                return
            try:
                rng.choice(CHANGES)(file, rng.choice(found), rng)
            except (ValueError, TypeError, KeyError, OSError, RuntimeError, OverflowError, MemoryError):
                continue


def _is_data(file: Any, key: str) -> bool:
    """Whether it is an array, and not one that an earlier change declared far larger than memory."""
    found = file.get(key)
    return isinstance(found, h5py.Dataset) and (found.size or 0) <= MOST


def _put(file: Any, key: str, **how: Any) -> None:
    if key in file:
        del file[key]
    file.create_dataset(key, **how)


def _number(file: Any, key: str, rng: Random) -> None:
    """One number of a dataset replaced, or all of them."""
    if not _is_data(file, key) or np.dtype(file[key].dtype).kind not in "iufb":
        _name(file, key, rng)
        return
    dataset, value = file[key], rng.choice(NUMBERS)
    values = np.array(dataset[()])
    with np.errstate(all="ignore"):
        if values.ndim and values.size and rng.random() < 0.6:
            values.reshape(-1)[rng.randrange(values.size)] = np.asarray(value).astype(values.dtype)
        else:
            values = np.full(values.shape, value)
    _put(file, key, data=values)


def _name(file: Any, key: str, rng: Random) -> None:
    """A text for what is there, of fixed or of variable length."""
    if not _is_data(file, key):
        key = f"{key}/{rng.choice(('type', 'name', 'reset', 'padding'))}"
    text = rng.choice(KINDS)
    data: Any = text if rng.random() < 0.5 else np.array([text.encode()] * rng.choice((1, 1, 1, 2)))
    _put(file, key, data=data)


def _shape(file: Any, key: str, rng: Random) -> None:
    """The same numbers in another shape, or as many as it takes."""
    if _is_data(file, key):
        values, axes = np.atleast_1d(np.array(file[key][()])), rng.choice((0, 1, 1, 2, 3, 4, 6))
        lengths = [rng.choice(LENGTHS[:7]) for _ in range(axes)]
        choices: list[Any] = [values.T, values.reshape(-1), values[None], values[..., :0], np.resize(values, lengths)]
        _put(file, key, data=choices[rng.randrange(5)])


def _type(file: Any, key: str, rng: Random) -> None:
    """The same numbers of another type."""
    if _is_data(file, key):
        with np.errstate(all="ignore"):
            _put(file, key, data=np.array(file[key][()]).astype(rng.choice(TYPES)))


def _alien(file: Any, key: str, rng: Random) -> None:
    """Something that is no array of numbers in the file itself."""
    kinds: list[Callable[[], dict[str, Any]]] = [
        lambda: {"data": h5py.Empty("f8")},
        lambda: {"data": np.ones(3, complex)},
        lambda: {"data": np.zeros(3, [("a", "i4")])},
        lambda: {"data": np.array([file.ref] * 2, h5py.ref_dtype)},
        lambda: {"shape": (3,), "dtype": h5py.vlen_dtype("i4")},
        lambda: {"shape": (rng.choice(LENGTHS),), "dtype": h5py.string_dtype()},
        lambda: {"shape": (4, 4), "dtype": "f8"},
        lambda: {"shape": (2, 2), "dtype": "i1", "external": [("/etc/hostname", 0, 4)]},
    ]
    _put(file, key, **rng.choice(kinds)())


def _large(file: Any, key: str, rng: Random) -> None:
    """Far more declared than stored: in chunks that are not there, or that gzip made small."""
    shape = tuple(rng.choice(LENGTHS) for _ in range(rng.choice((1, 1, 2, 4))))
    how: dict[str, Any] = {"shape": shape, "dtype": rng.choice(TYPES), "chunks": True}
    if rng.random() < 0.5 and np.prod(np.array(shape, float)) < 1 << 22:
        how = {"data": np.zeros(shape, how["dtype"]), "chunks": True, "compression": "gzip"}
    _put(file, key, **how)


def _move(file: Any, key: str, rng: Random) -> None:
    """An entry under another name."""
    parent = key.rpartition("/")[0]
    file.move(key, f"{parent}/{rng.choice(NAMES)}" if rng.random() < 0.7 else rng.choice(NAMES))


def _copy(file: Any, key: str, rng: Random) -> None:
    """An entry in the place of another, by value or as a link."""
    found: list[str] = []
    file.visit(found.append)
    other, kind = rng.choice(found), rng.randrange(4)
    target = f"{key}/{rng.choice(NAMES)}" if isinstance(file[key], h5py.Group) and rng.random() < 0.5 else key
    if kind == 0:
        link: Any = rng.choice((h5py.SoftLink(f"/{other}"), h5py.ExternalLink("/etc/hostname", "/")))
        if target in file:
            del file[target]
        file[target] = link
        return
    if target in file and target != other:
        del file[target]
    if kind == 1:
        file[target] = file[other]
    else:
        file.copy(other, target)


def _remove(file: Any, key: str, _rng: Random) -> None:
    del file[key]


def _add(file: Any, key: str, rng: Random) -> None:
    """An entry or an attribute of a known name."""
    group, name = file[key] if isinstance(file[key], h5py.Group) else file[key].parent, rng.choice(NAMES)
    value: Any = rng.choice((rng.choice(NUMBERS), rng.choice(KINDS)))
    if rng.random() < 0.2:
        rng.choice((group, file)).attrs[name] = value
    elif rng.random() < 0.3:
        group[f"metadata/{name}"] = value
    else:
        group[name] = value


CHANGES = (_number, _number, _number, _name, _shape, _shape, _type, _alien, _large, _move, _copy, _remove, _add, _add)
