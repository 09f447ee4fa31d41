"""The examples for Xylo, on signals that are made up."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from examples.xylo import __main__ as command
from examples.xylo.tasks import FOLDER, TASKS, crossings, held_out
from examples.xylo.training import Contender, Settings, width_of
from neuroprune.training.data.arrays import ArraySet
from neuroprune.training.data.base import DatasetNotFound
from tests.builders.signals import write_signals
from tests.builders.xylosim import required_in_ci

RESULTS = Path(command.__file__).parent / "results"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """An archive with Basic Motions' files in it, of three channels."""
    with zipfile.ZipFile(tmp_path / "aeon.whl", "w") as archive:
        for part, samples in (("TRAIN", 20), ("TEST", 6)):
            write_signals(tmp_path / "x.ts", samples, samples)
            archive.write(tmp_path / "x.ts", f"{FOLDER}/BasicMotions/BasicMotions_{part}.ts")
    return tmp_path / "aeon.whl"


def test_a_seed_runs_and_is_written(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = replace(TASKS["basic_motions"], length=8, batch=10, hidden=12)
    chance = Settings(3e-3, 0.1), Settings(1e-2, 0.1)
    monkeypatch.setattr(command, "GRID", chance)
    monkeypatch.setattr(command, "TASKS", {"basic_motions": small})
    arguments = [
        "basic_motions",
        "--wheel",
        str(wheel),
        "--seeds",
        "1",
        "--steps",
        "4",
        "--out",
        str(tmp_path / "out"),
    ]
    with required_in_ci():
        assert command.main(arguments) == 0
    assert "integers unlike xylosim's" in capsys.readouterr().out
    written = (tmp_path / "out" / "basic_motions.json").read_text()
    report = json.loads(written)
    assert len(report["selection"]) == 3 * len(chance) * len(small.thirds)
    runs = report["runs"]
    assert [run["kind"] for run in runs] == ["all weights", "pruned", "narrow"]
    assert all(run["integers_that_differ"] == run["counts_that_differ"] == 0 for run in runs)
    assert all(run["accuracy"] == run["accuracy_on_chip"] for run in runs)
    assert runs[1]["synapses_of_hidden_neurons"] < runs[0]["synapses_of_hidden_neurons"] / 2
    monkeypatch.setattr(command, "trained", None)
    assert command.main(arguments) == 0, "what is there already is not run again"
    assert (tmp_path / "out" / "basic_motions.json").read_text() == written


def test_a_wheel_without_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"pip download --no-deps aeon==1\.6\.0"):
        TASKS["japanese_vowels"].data(tmp_path / "nothing.whl")


def test_levels_crossed_are_spikes_up_and_down() -> None:
    levels = torch.tensor([[[7], [9], [9], [4], [40]]], dtype=torch.uint8)
    assert crossings(levels)[0].T.tolist() == [[0, 2, 0, 0, 15], [0, 0, 0, 5, 0]]


def test_a_third_of_each_class_is_held_out() -> None:
    labels = torch.tensor([0] * 7 + [1] * 5)
    data = ArraySet(torch.arange(12)[:, None, None], labels, 2, has_steps=True, unit=1)
    held = [held_out(data, third)[1] for third in range(3)]
    assert held[1].samples.flatten().tolist() == [1, 4, 8, 11]
    assert held[1].labels.tolist() == [0, 0, 1, 1]
    assert sorted(torch.cat([one.samples for one in held]).flatten().tolist()) == list(range(12))
    for third, one in enumerate(held):
        rest = held_out(data, third)[0]
        assert not {*rest.samples.flatten().tolist()} & {*one.samples.flatten().tolist()}
        assert len(rest) + len(one) == 12


def test_the_most_accurate_settings_are_chosen_and_of_equals_the_lowest_loss() -> None:
    accuracy = dict(zip(command.GRID, (0.5, 0.9, 0.9, 0.7), strict=True))
    loss = dict(zip(command.GRID, (0.1, 0.6, 0.5, 0.2), strict=True))
    rows = [
        {"kind": kind, "third": third, **asdict(one), "accuracy": accuracy[one] * part, "loss": loss[one]}
        for one in command.GRID
        for third in (0, 1)
        for kind, part in (("pruned", 1), ("narrow", -1))
    ]
    assert command.chosen(rows, Contender("pruned", 4, 0.5)) == command.GRID[2]
    assert command.chosen(rows, Contender("narrow", 4, 0.5)) == command.GRID[0]


def test_a_narrow_network_has_no_more_synapses() -> None:
    for synapses in (3 * 5 * 5 + 5 * 4, 3 * 5 * 5 + 5 * 4 + 1, 3 * 6 * 6 + 6 * 4 - 1):
        assert width_of(synapses, 4) == 5


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.json")))
def test_committed_results_are_exact(name: str) -> None:
    report = json.loads((RESULTS / f"{name}.json").read_text())
    assert report["chip"] == TASKS[name].chip
    for run in report["runs"]:
        assert run["integers_that_differ"] == run["counts_that_differ"] == 0
        assert run["accuracy"] == run["accuracy_on_chip"]
        assert bool(run["does_not_fit"]) == (run["kind"] == "all weights")
