"""Data sets of arrays, events and signals: small files of the real formats, against other readers and slow twins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuroprune.training.data.arrays import ArraySet, npz
from neuroprune.training.data.base import DataSet, DatasetNotFound, has_steps
from neuroprune.training.data.events import events, frames, tonic
from neuroprune.training.data.images import ImageSet
from neuroprune.training.data.own import NAMED, own_data, with_absolute_paths
from neuroprune.training.data.saccades import as_events, saccade_events
from neuroprune.training.data.signals import read_ts, signals

SENSOR = (7, 5, 2)
EVENT = np.dtype([("t", int), ("x", int), ("y", int), ("p", int)])
TS = """# a signal of three channels
@problemName Gestures
@timeStamps false
@missing false
@univariate false
@dimensions 3
@equalLength true
@seriesLength 4
@classLabel true Still Waving
@data
0.5,1.5,0.5,-0.5:1,2,3,4:7,7,7,7:Waving

-0.5,0.0,0.25,0.5:4,3,2,1:7,7,7,7:Still
"""


def some_events(count: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    found = np.zeros(count, EVENT)
    found["t"] = np.sort(rng.integers(0, 40, count))
    found["x"], found["y"], found["p"] = (rng.integers(0, side, count) for side in SENSOR)
    return found


@pytest.mark.parametrize("mode", ["counts", "binary"])
def test_frames_are_those_of_tonic(mode: Any) -> None:
    transforms = pytest.importorskip("tonic.transforms")
    sent = some_events(300)
    ours = frames(sent, SENSOR, 4, mode=mode, most=255, window=10)
    last = transforms.ToFrame(SENSOR, time_window=10, start_time=sent["t"].min(), end_time=sent["t"].min() + 40)(sent)
    wanted = np.minimum(last, 1) if mode == "binary" else last
    np.testing.assert_array_equal(ours, wanted)
    assert last.max() > 1


def test_every_event_is_in_the_step_of_its_time() -> None:
    sent = some_events(200)
    wanted = np.zeros((3, 2, 5, 7), int)
    first, last = sent["t"].min(), sent["t"].max()
    for t, x, y, p in sent.tolist():
        step = next(k for k in (2, 1, 0) if 3 * (t - first) >= k * (last - first))
        wanted[step, p, y, x] += 1
    np.testing.assert_array_equal(frames(sent, SENSOR, 3, most=5), np.minimum(wanted, 5) * 51)
    columns = np.stack([sent[key] for key in ("t", "x", "y", "p")], 1)
    np.testing.assert_array_equal(frames(columns, SENSOR, 3, most=255), wanted)
    assert frames(sent[:0], SENSOR, 3).sum() == 0


def test_events_outside_of_the_sensor_and_other_counts_are_refused() -> None:
    with pytest.raises(DatasetNotFound, match=r"event 0 is at x 9, y 1, polarity 0, outside of the sensor \(7, 5, 2\)"):
        frames(np.array([[0, 9, 1, 0]]), SENSOR, 2)
    with pytest.raises(ValueError, match="a divisor of 255"):
        frames(some_events(3), SENSOR, 2, most=4)
    with pytest.raises(DatasetNotFound, match="give fields t, x, y, p"):
        frames(np.zeros((3, 3)), SENSOR, 2)


def event_file(path: Path, samples: int, **changes: Any) -> str:
    sent = [some_events(20 + n, n) for n in range(samples)]
    whole = np.concatenate(sent)
    arrays = {key: whole[key] for key in EVENT.names or ()}
    arrays |= {"sample": np.repeat(np.arange(samples), [len(e) for e in sent]), "label": np.arange(samples) % 3}
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return str(path)


def test_a_file_of_events(tmp_path: Path) -> None:
    found = events(event_file(tmp_path / "e.npz", 10), sensor_size=list(SENSOR), steps=4, mode="binary")
    assert (len(found.train), len(found.test), found.train.classes) == (8, 2, 3)
    assert found.test.sample_shape == (4, 2, 5, 7)
    assert found.test.as_input(found.test.pixels(2)).shape == (4, 2, 2, 5, 7)
    assert found.test.unit == 1
    kept = [*found.train.samples, *found.test.samples]
    wanted = [frames(some_events(20 + n, n), SENSOR, 4, mode="binary") for n in range(10)]
    assert sorted(k.numpy().tobytes() for k in kept) == sorted(w.tobytes() for w in wanted)
    for changes, says in (
        ({"p": None}, "lacks the array p"),
        ({"label": np.zeros(3, int)}, "sample holds 9"),
        ({"t": np.zeros(3, int)}, "give .E,. each"),
        ({"t": np.array([None] * 3)}, "cannot be read"),
    ):
        with pytest.raises(DatasetNotFound, match=says):
            events(event_file(tmp_path / "e.npz", 10, **changes), sensor_size=list(SENSOR), steps=4)


def test_a_data_set_of_tonic(tmp_path: Path) -> None:
    pytest.importorskip("tonic")
    for part in ("pips_train", "pips_test"):
        (tmp_path / "POKERDVS").mkdir(exist_ok=True)
        (tmp_path / "POKERDVS" / f"{part}.tar.gz").touch()  # tonic asks for it, and for 20 files
        for n in range(20):
            folder = tmp_path / "POKERDVS" / part / ("cl", "he", "di", "sp")[n % 4]
            folder.mkdir(parents=True, exist_ok=True)
            sent = some_events(30, n)
            np.save(folder / f"{n}.npy", np.stack([sent[key] for key in ("t", "x", "y", "p")], 1))
    found = tonic("POKERDVS", str(tmp_path), steps=3)
    assert found.train.sample_shape == (3, 2, 35, 35)
    assert (len(found.train), len(found.test), found.train.classes) == (20, 20, 4)
    assert int((found.train.samples[:5] // 17).sum()) == 150
    with pytest.raises(DatasetNotFound, match="tonic has no data set 'PALM'"):
        tonic("PALM", str(tmp_path), steps=3)


def ts_files(folder: Path, train: str = TS, test: str = TS) -> list[str]:
    paths = [folder / "train.ts", folder / "test.ts"]
    for path, text in zip(paths, (train, test), strict=True):
        path.write_text(text)
    return [str(path) for path in paths]


def test_a_ts_file(tmp_path: Path) -> None:
    train, test = ts_files(tmp_path, test=TS.replace("4:7", "9:7"))
    found, names = read_ts(train)
    assert names == ["Waving", "Still"]
    assert found[0].tolist() == [[0.5, 1.5, 0.5, -0.5], [1, 2, 3, 4], [7, 7, 7, 7]]
    split = signals(train, test)
    # A value is round(255·(x − min)/(max − min)) of its channel in training; beyond that it is held; a constant is 0.
    assert split.train.samples[0].T.tolist() == [[128, 255, 128, 0], [0, 85, 170, 255], [0, 0, 0, 0]]
    assert split.test.samples[0, :, 1].tolist() == [0, 85, 170, 255]
    assert split.train.labels.tolist() == [1, 0]
    assert split.train.as_input(split.train.samples).shape == (4, 2, 3)
    assert signals(train, test, steps=False).train.as_input(split.train.samples).shape == (2, 4, 3)


def test_signals_of_different_lengths(tmp_path: Path) -> None:
    train, test = ts_files(tmp_path, test=TS.replace("4,3,2,1:7,7,7,7", "4,3:7,7").replace("-0.5,0.0,0.25,0.5", "1,1"))
    with pytest.raises(DatasetNotFound, match="have 2 to 4 values; say how many to use, length=4"):
        signals(train, test)
    with pytest.raises(DatasetNotFound, match=r"steps is 3, expected true .* or false; to show"):
        signals(train, test, steps=3)  # type: ignore[arg-type]  # what a recipe may hold
    assert signals(train, test, length=3).test.samples[1].T.tolist() == [[191, 191, 0], [255, 170, 0], [0, 0, 0]]


def test_arrays_of_signals_are_those_of_the_ts_file(tmp_path: Path) -> None:
    train, test = ts_files(tmp_path)
    x, y = np.stack(read_ts(train)[0]), np.array([1, 0])
    np.savez(tmp_path / "whole.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / "part.npz", x=x, y=y)
    wanted = signals(train, test).train
    for paths in ([tmp_path / "whole.npz"], [tmp_path / "part.npz"] * 2):
        found = signals(*map(str, paths)).train
        assert torch.equal(found.samples, wanted.samples)
        assert torch.equal(found.labels, wanted.labels)
    with pytest.raises(DatasetNotFound, match="lacks the array x_train"):
        signals(str(tmp_path / "part.npz"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("1,2,3,4", "1,?,3,4"), "line 11: could not convert string to float: '\\?'"),
        (("1,2,3,4", "1,2,3"), "line 11: .*inhomogeneous"),
        (("@data", "@date"), "no line @data"),
        (("@timeStamps false", "@timeStamps true"), "has time stamps"),
        (("@classLabel true Still Waving", "@classLabel false"), "no class labels"),
    ],
)
def test_ts_files_of_another_kind_are_refused(change: tuple[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=says):
        signals(*ts_files(tmp_path, TS.replace(*change)))


def test_arrays_of_an_npz_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 3, 2, 4, 4), np.uint8), np.arange(20) % 4
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:5] > 90, y_test=y[:5])
    found = npz(str(tmp_path / "a.npz"))
    assert found.train.has_steps
    assert torch.equal(found.train.as_input(found.train.samples), torch.from_numpy(x).transpose(0, 1) / 255)
    np.savez(tmp_path / "b.npz", x=x, y=y)
    half = npz(str(tmp_path / "b.npz"), steps=False)
    assert (len(half.train), len(half.test), half.test.has_steps) == (16, 4, False)
    kept = [s.numpy().tobytes() for s in (*half.train.samples, *half.test.samples)]
    assert sorted(kept) == sorted(s.tobytes() for s in x), "each once"
    np.savez(tmp_path / "c.npz", x=x[:, 0].astype(float) / 100, y=y)
    assert not npz(str(tmp_path / "c.npz")).train.in_unit_range


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros((9, 2))}, "lacks the array y .it has x.; save"),
        ({"x": np.zeros((9, 2)), "y": np.zeros(8, int)}, "samples of shape .9, 2. for 8 labels"),
        ({"x": np.zeros((9, 2)), "y": np.zeros(9)}, "type float64; give whole numbers"),
        ({"x": np.full((9, 2), np.nan), "y": np.zeros(9, int)}, "hold NaN"),
        ({"x": np.zeros((9, 2), int), "y": np.zeros(9, int)}, "samples have type int64"),
        ({"x": np.array([None]), "y": np.zeros(1, int)}, "cannot be read as .npz"),
        ({"x": np.zeros((2, 2)), "y": np.zeros(2, int)}, "too few to keep a fifth apart"),
    ],
)
def test_arrays_of_another_kind_are_refused(arrays: dict[str, Any], says: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DatasetNotFound, match=says):
        npz(str(tmp_path / "a.npz"))
    with pytest.raises(DatasetNotFound, match="does not exist"):
        npz(str(tmp_path / "b.npz"))


def test_saccades_send_where_the_image_moves() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 6, 6), np.uint8)
    found = saccade_events(images, 6, 0.1)
    places = np.cumsum([(1, 1), (1, 1), (-1, 1), (-1, 1), (0, -2), (0, -2)], axis=0).tolist()
    padded = np.pad(images.astype(int), ((0, 0), (6, 6), (6, 6)))
    before = images.astype(int)
    for n, (down, right) in enumerate(places):
        now = padded[:, 6 - down : 12 - down, 6 - right : 12 - right]
        np.testing.assert_array_equal(found[:, n, 0], now > before + 25.5)
        np.testing.assert_array_equal(found[:, n, 1], now < before - 25.5)
        before = now
    whole = as_events(ImageSet(torch.from_numpy(images)[:, None], torch.arange(3)), 6)
    assert whole.in_unit_range
    assert whole.as_input(whole.samples).shape == (6, 3, 2, 6, 6)


def test_where_time_is_told_from_two_batches() -> None:
    class Silent:
        """A data set that does not say whether it has steps."""

        def __init__(self, data: ArraySet) -> None:
            self.pixels, self.as_input = data.pixels, data.as_input

    for steps in (True, False):
        data = ArraySet(torch.zeros(4, 1, 3, dtype=torch.uint8), torch.zeros(4, dtype=torch.long), 1, steps)
        assert isinstance(data, DataSet)
        silent: Any = Silent(data)
        assert has_steps(data) is has_steps(silent) is steps


def test_every_named_data_set_is_there_and_its_paths_are_absolute(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((9, 2), np.uint8), y=np.zeros(9, int))
    assert len(own_data("r", "arrays", {"path": str(tmp_path / "a.npz")}).train) == 7
    for name in NAMED:
        assert with_absolute_paths(name, {"path": "a.npz", "steps": 3}) == {
            "path": str(Path.cwd() / "a.npz"),
            "steps": 3,
        }
    assert with_absolute_paths("my.own:data", {"path": "a.npz"}) == {"path": "a.npz"}
    from importlib import import_module

    for place in NAMED.values():
        module, function = place.split(":")
        assert callable(getattr(import_module(module), function))


def test_signals_as_counts_of_spikes(tmp_path: Path) -> None:
    x = np.array([[[0.0, 1.0, 2.0]], [[0.0, 4.0, 3.0]]])
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.array([0, 1]), x_test=2 * x, y_test=np.array([0, 1]))
    found = signals(str(tmp_path / "x.npz"), counts=8)
    assert found.train.in_unit_range
    assert found.train.as_input(found.train.samples)[:, :, 0].T.tolist() == [[0, 2, 4], [0, 8, 6]]
    assert found.test.as_input(found.test.samples)[:, 1, 0].tolist() == [0, 8, 8], "held at the largest"
    with pytest.raises(DatasetNotFound, match="counts is 256, expected 1 … 255 spikes a step"):
        signals(str(tmp_path / "x.npz"), counts=256)
