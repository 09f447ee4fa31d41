"""TensorBoard's own reader finds in the event files what metrics.jsonl holds, of interrupted runs, too."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hw_targets.app.cli import main
from tests.builders.tiny_run import Interrupted, stop_after, train, write_recipe


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of a folder of event files: (step, value)."""
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def recorded(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The same of metrics.jsonl."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for key in row.keys() - {"run", "step"}:
            found.setdefault(key, []).append((row["step"], row[key]))
    return found


def assert_same(folder: Path, run: Path) -> None:
    shown, wanted = events(folder), recorded(run)
    assert set(shown) == set(wanted) >= {"loss", "lr", "threshold"}
    for key, points in wanted.items():
        assert [step for step, _ in shown[key]] == [step for step, _ in points]
        assert [value for _, value in shown[key]] == pytest.approx([value for _, value in points], rel=1e-6)


def test_while_it_trains_and_afterwards(tmp_path: Path) -> None:
    run, board = tmp_path / "run", tmp_path / "board"
    assert train(write_recipe(tmp_path), run, "--tensorboard", str(board)) == 0
    assert [path.name for path in (board / "run").iterdir()] == ["pruned"]
    assert_same(board / "run" / "pruned", run)
    assert main(["report", str(run), "--tensorboard", str(tmp_path / "later")]) == 0
    assert_same(tmp_path / "later" / "pruned", run)


def test_a_run_that_goes_on_shows_each_step_once(tmp_path: Path) -> None:
    run, board = tmp_path / "run", tmp_path / "board"
    recipe = write_recipe(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Interrupted):
            train(recipe, run, "--tensorboard", str(board), "--checkpoint-every", "3")
    assert train(None, run, "--resume", "--tensorboard", str(board)) == 0
    assert_same(board / "run" / "pruned", run)


def test_without_tensorboard_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert train(write_recipe(tmp_path), tmp_path / "run", "--tensorboard", str(tmp_path / "board")) == 2
    assert "pip install 'neuroprune[tensorboard]'" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"mixed0.toml"}


def test_event_files_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert train(write_recipe(tmp_path), run) == 0
    assert main(["report", str(run), "--tensorboard", str(tmp_path)]) == 2
    assert "name a new folder" in capsys.readouterr().err
