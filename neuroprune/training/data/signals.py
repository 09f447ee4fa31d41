"""Signals of several channels: arrays (N, C, L) of an .npz file, or the .ts files of the UEA and UCR archives.

A chip takes 0 … 1 in 8 bits. Each channel is therefore mapped from the range it has in the training set to 0 … 1,
values outside are held there, and the model is given the same 8-bit values as the chip. Chips that take spikes alone,
several of a channel in one step (Xylo), get so many instead: `counts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuroprune.training.data.arrays import ArraySet, read_npz, split_of
from neuroprune.training.data.base import DatasetNotFound, Split

Floats = npt.NDArray[np.float64]
#: Signals, each (C, L), and their classes by name.
Labelled = tuple[list[Floats], list[str]]


def signals(
    train: str, test: str | None = None, *, steps: bool = True, length: int | None = None, counts: int | None = None
) -> Split[ArraySet]:
    """Signals from files.

    Args:
        train: a .ts file, or an .npz file with arrays `x` (N, C, L) and `y` (N,).
        test: the same for testing. None: the .npz file holds `x_train`, `y_train`, `x_test` and `y_test`.
        steps: every value of a signal is a time step of the network, which gets (T, N, C) with T = L. False: the
            network gets (N, C, L), the same in every step, for convolutions over L.
        length: L of signals that differ in length: longer ones are cut, shorter ones end in zeros, which stand for the
            smallest value of the training set.
        counts: spikes for the largest value of the training set, none for the smallest: the model gets whole numbers.

    Returns:
        Split: the test signals are the validation set, too.

    Raises:
        DatasetNotFound: a file that is absent or of another format, a missing value, signals of different lengths and
            no `length`, or a number for `steps`.
    """
    if not isinstance(steps, bool):
        raise DatasetNotFound(
            f"{train}: steps is {steps!r}, expected true (every value is a time step) or false; to show fewer steps,"
            " give `length`, or average your signals over windows before"
        )
    if test is None:
        arrays = _arrays(train, ("x_train", "y_train", "x_test", "y_test"))
        return signal_split(
            train, [(arrays[0], arrays[1]), (arrays[2], arrays[3])], steps=steps, length=length, counts=counts
        )
    parts = [_read(path) for path in (train, test)]
    names = sorted({name for _, found in parts for name in found}, key=_as_number)
    labelled = [(x, np.array([names.index(name) for name in found])) for x, found in parts]
    return signal_split(train, labelled, steps=steps, length=length, counts=counts)


def signal_split(
    where: str,
    parts: Sequence[tuple[Sequence[Floats] | Floats, npt.NDArray[Any]]],
    *,
    steps: bool = True,
    length: int | None = None,
    counts: int | None = None,
) -> Split[ArraySet]:
    """(signals, labels) for training and for testing, in 8 bits or as counts; arguments as for `signals`."""
    if counts is not None and not 1 <= counts <= 255:
        raise DatasetNotFound(f"{where}: counts is {counts}, expected 1 … 255 spikes a step")
    lengths = {signal.shape[-1] for x, _ in parts for signal in x}
    if length is None and len(lengths) > 1:
        raise DatasetNotFound(
            f"{where}: signals have {min(lengths)} to {max(lengths)} values; say how many to use, length={max(lengths)}"
        )
    channels = {signal.shape[0] for x, _ in parts for signal in x}
    if len(channels) != 1:
        raise DatasetNotFound(f"{where}: signals have {sorted(channels)} channels; they need the same number")
    low, high = _range(parts[0][0])
    scaled = [(_in_bytes(x, low, high, length or max(lengths), counts or 255), y) for x, y in parts]
    if steps:
        scaled = [(np.ascontiguousarray(x.swapaxes(1, 2)), y) for x, y in scaled]
    return split_of(where, scaled, steps=steps, unit=255 if counts is None else 1)


def _range(signals: Sequence[Floats] | Floats) -> tuple[Floats, Floats]:
    """Smallest and largest value of each channel, (C, 1)."""
    low = np.min([signal.min(1, keepdims=True) for signal in signals], axis=0)
    high = np.max([signal.max(1, keepdims=True) for signal in signals], axis=0)
    return low, high


def _in_bytes(
    signals: Sequence[Floats] | Floats, low: Floats, high: Floats, length: int, top: int
) -> npt.NDArray[np.uint8]:
    """(N, C, L): round(top·(x − low)/(high − low)), held in 0 … top; 0 for a channel that is constant."""
    found = np.zeros((len(signals), len(low), length), np.uint8)
    span = np.where(high > low, high - low, 1.0)
    for row, signal in zip(found, signals, strict=True):
        values = np.clip(np.rint(top * (signal[:, :length] - low) / span), 0, top)
        row[:, : values.shape[1]] = values
    return found


def _read(path: str) -> Labelled:
    if path.endswith(".ts"):
        return read_ts(path)
    x, y = _arrays(path, ("x", "y"))
    return list(x), [str(label) for label in y.tolist()]


def _arrays(path: str, keys: Sequence[str]) -> list[npt.NDArray[Any]]:
    found = read_npz(path)
    if missing := [key for key in keys if key not in found]:
        raise DatasetNotFound(f"{path} lacks the array {missing[0]}; signals need {', '.join(keys)}")
    for key in keys[::2]:
        if found[key].ndim != 3 or found[key].dtype.kind not in "fiu" or not np.isfinite(found[key]).all():
            raise DatasetNotFound(f"{path}: {key} has shape {found[key].shape}; give finite numbers (N, C, L)")
    return [found[key] for key in keys]


def read_ts(path: str | Path) -> Labelled:
    """Signals and class names of a .ts file (Bagnall et al., 2018, arXiv 1811.00075; timeseriesclassification.com).

    After `@data`, one signal a line: channels between colons, values between commas, the class after the last colon.

    Raises:
        DatasetNotFound: it is absent, has time stamps, no classes, or a line that is not as above (it is named).
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetNotFound(f"{path} cannot be read ({error}); give a .ts file") from error
    begin = next((n for n, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if begin is None:
        raise DatasetNotFound(f"{path} has no line @data; give a .ts file of the UEA or UCR archive")
    head = [line.lower().split() for line in lines[:begin] if line.startswith("@")]
    said = {words[0]: words[1:] for words in head}
    if said.get("@timestamps", ["false"])[0] == "true" or said.get("@classlabel", ["false"])[0] != "true":
        raise DatasetNotFound(f"{path} has time stamps, or no class labels; only signals of classes are read")
    found, names = [], []
    for signal, name in _signals(str(path), lines, begin):
        found.append(signal)
        names.append(name)
    if not found:
        raise DatasetNotFound(f"{path} holds no signal after @data")
    return found, names


def _signals(path: str, lines: list[str], begin: int) -> Iterator[tuple[Floats, str]]:
    for number, line in enumerate(lines[begin + 1 :], begin + 2):
        if not line.strip():
            continue
        *channels, name = line.strip().split(":")
        try:
            signal = np.array([[float(value) for value in channel.split(",")] for channel in channels])
        except ValueError as error:  # no number, a missing value ("?"), or channels of different lengths
            raise DatasetNotFound(f"{path}, line {number}: {error}; values must all be there") from error
        if signal.ndim != 2 or not np.isfinite(signal).all():
            raise DatasetNotFound(f"{path}, line {number}: no channel, or a value that is not finite")
        yield signal, name


def _as_number(name: str) -> tuple[int, float, str]:
    """Classes called 1, 2, … 10 in the order of their numbers; others by their names."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name
