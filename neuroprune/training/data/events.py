"""Events of a camera or another sensor, (t, x, y, p) each, as frames: counts or ones by pixel, polarity and step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from neuroprune._require import require
from neuroprune.training.data.arrays import ArraySet, read_npz, split_of
from neuroprune.training.data.base import DatasetNotFound, Split

Mode: TypeAlias = Literal["counts", "binary"]
#: (events of one sample, its class).
Sample: TypeAlias = tuple[npt.NDArray[Any], int]


def frames(
    events: npt.NDArray[Any],
    sensor_size: tuple[int, int, int],
    steps: int,
    *,
    mode: Mode = "counts",
    most: int = 15,
    window: int | None = None,
) -> npt.NDArray[np.uint8]:
    """Frames (T, P, H, W) of one sample: c[t, p, y, x] = number of events there, or whether there are any.

    Args:
        events: (E,), with the fields t, x, y, p as tonic's have them, or (E, 4) whole numbers in that order.
        sensor_size: (W, H, P) as tonic gives it, P the number of polarities.
        steps: T.
        mode: "counts", min(c, most)·255/most as uint8, which stands for min(c, most)/most; or "binary", 1 where c > 0.
        most: a divisor of 255 (1, 3, 5, 15, 17, 51, 85 or 255), so that the chip's 8 bits hold every count exactly.
        window: length of a step, in the unit of t; later events are left out. None: the time from the first event to
            the last is cut into T equal steps.

    Raises:
        DatasetNotFound: events outside of the sensor, or of another layout.
        ValueError: another mode, or a `most` that is no divisor.
    """
    if mode not in ("counts", "binary") or most < 1 or 255 % most or steps < 1:
        raise ValueError(
            f"frames: mode is {mode!r}, most {most}, steps {steps}; expected counts or binary, a divisor of 255, and at"
            " least one step"
        )
    t, x, y, p = _columns(events)
    width, height, polarities = sensor_size
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (p < 0) | (p >= polarities)
    if outside.any():
        n = int(outside.argmax())
        raise DatasetNotFound(
            f"event {n} is at x {x[n]}, y {y[n]}, polarity {p[n]}, outside of the sensor {sensor_size} (W, H, P)"
        )
    step = _steps(t, steps, window)
    inside = step < steps
    place = ((step * polarities + p) * height + y) * width + x
    counts = np.bincount(place[inside], minlength=steps * polarities * height * width)
    counts = counts.reshape(steps, polarities, height, width)
    found = counts > 0 if mode == "binary" else np.minimum(counts, most) * (255 // most)
    return found.astype(np.uint8)


def event_set(
    train: Iterable[Sample],
    test: Iterable[Sample] | None,
    sensor_size: tuple[int, int, int],
    steps: int,
    *,
    mode: Mode = "counts",
    most: int = 15,
    window: int | None = None,
) -> Split[ArraySet]:
    """Samples of events as a data set of frames (T, N, P, H, W); a tonic data set is such samples.

    `test` None: a fifth of `train`, drawn with a fixed seed. The test set is the validation set, too. Other arguments
    as for `frames`.

    Raises:
        DatasetNotFound: as `frames`, or no samples.
    """
    parts = []
    for samples in (train,) if test is None else (train, test):
        shown, labels = [], []
        for events, label in _all(samples):
            shown.append(frames(events, sensor_size, steps, mode=mode, most=most, window=window))
            labels.append(int(label))
        if not shown:
            raise DatasetNotFound("event_set: no samples; give (events, label) pairs")
        parts.append((np.stack(shown), np.array(labels)))
    return split_of("event_set", parts, steps=True, unit=1 if mode == "binary" else 255)


def events(
    train: str,
    test: str | None = None,
    *,
    sensor_size: list[int],
    steps: int,
    mode: Mode = "counts",
    most: int = 15,
    window: int | None = None,
) -> Split[ArraySet]:
    """Events from .npz files with arrays t, x, y and p (E,), `sample` (E,), which sample each is of, and `label` (N,).

    Arguments as for `event_set`, `train` and `test` being paths.

    Raises:
        DatasetNotFound: a file that is absent or of another layout, or events outside of the sensor.
    """
    size = _sensor(sensor_size)
    files = [None if path is None else read_events(path) for path in (train, test)]
    assert files[0] is not None
    return event_set(files[0], files[1], size, steps, mode=mode, most=most, window=window)


def tonic(
    dataset: str, folder: str, *, steps: int, mode: Mode = "counts", most: int = 15, window: int | None = None
) -> Split[ArraySet]:
    """A data set of tonic by its class name, such as NMNIST, its files in `folder`; all in memory, as frames.

    Raises:
        DatasetNotFound: tonic has no such data set, or cannot read it.
        ImportError: tonic is not installed.
    """
    kind = getattr(require("tonic.datasets", "events"), dataset, None)
    if kind is None:
        raise DatasetNotFound(f"tonic has no data set {dataset!r}; see tonic.datasets for those it has")
    try:
        try:
            train, test = kind(folder, train=True), kind(folder, train=False)
        except TypeError:  # it has one part only
            train, test = kind(folder), None
    except Exception as error:  # whatever reading or downloading raises
        raise DatasetNotFound(f"tonic cannot read {dataset} in {folder}: {error}") from error
    return event_set(train, test, _sensor(kind.sensor_size), steps, mode=mode, most=most, window=window)


def read_events(path: str) -> list[Sample]:
    """Samples of an .npz file, as `events` says."""
    found = read_npz(path)
    keys = ("t", "x", "y", "p", "sample", "label")
    if missing := [key for key in keys if key not in found]:
        raise DatasetNotFound(f"{path} lacks the array {missing[0]}; events need {', '.join(keys)}")
    columns = [found[key] for key in keys[:5]]
    if any(column.shape != columns[0].shape or column.ndim != 1 for column in columns):
        raise DatasetNotFound(f"{path}: t, x, y, p and sample have shapes {[c.shape for c in columns]}; give (E,) each")
    if any(column.dtype.kind not in "iub" for column in columns):
        raise DatasetNotFound(f"{path}: t, x, y, p and sample must be whole numbers")
    labels, sample = found["label"], columns[4]
    if sample.size and not 0 <= sample.min() <= sample.max() < len(labels):
        raise DatasetNotFound(f"{path}: sample holds {sample.max()}, but there are {len(labels)} labels")
    rows = np.stack([column.astype(np.int64) for column in columns[:4]], axis=1)
    return [(rows[sample == n], int(label)) for n, label in enumerate(labels)]


def _all(samples: Iterable[Sample]) -> Iterable[Sample]:
    """Of what has a length and an index (tonic's data sets) every sample once; else what iterating gives."""
    indexed: Any = samples
    if hasattr(indexed, "__getitem__") and hasattr(indexed, "__len__"):
        return (indexed[n] for n in range(len(indexed)))
    return samples


def _columns(events: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
    names = events.dtype.names
    if names is not None and {"t", "x", "p"} <= set(names):
        rows = [events[key] if key in names else np.zeros(len(events)) for key in ("t", "x", "y", "p")]
    elif names is None and events.ndim == 2 and events.shape[1] == 4:
        rows = list(events.T)
    else:
        raise DatasetNotFound(
            f"events of type {events.dtype} and shape {events.shape}; give fields t, x, y, p or (E, 4)"
        )
    return [row.astype(np.int64) for row in rows]


def _steps(t: npt.NDArray[np.int64], steps: int, window: int | None) -> npt.NDArray[np.int64]:
    """Step of each event: ⌊(t − t₀)/window⌋, or ⌊T·(t − t₀)/(t₁ − t₀)⌋, the last event being in the last step."""
    if not t.size:
        return t
    since = t - t.min()
    if window is not None:
        in_window: npt.NDArray[np.int64] = since // window
        return in_window
    found: npt.NDArray[np.int64] = np.minimum(since * steps // max(1, int(since.max())), steps - 1)
    return found


def _sensor(size: Any) -> tuple[int, int, int]:
    if len(size) != 3 or any(int(side) < 1 for side in size):
        raise DatasetNotFound(f"sensor_size is {list(size)}, expected [width, height, polarities]")
    width, height, polarities = (int(side) for side in size)
    return width, height, polarities
