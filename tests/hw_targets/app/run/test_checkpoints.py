"""The newest complete checkpoint wins, and metrics are cut off where it stood."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hw_targets.app.run.checkpoints import Checkpoint, drop_newer, newest, save
from hw_targets.app.run.metrics import Metrics
from neuroprune.training.recipe import InvalidRecipe


def run_until(folder: Path, last: int, every: int = 1) -> None:
    """Metrics and checkpoints of so many steps."""
    with Metrics(folder / "metrics.jsonl") as metrics:
        record = metrics.recorder("pruned")
        for step in range(last + 1):
            if step % every == 0:
                state = {"weight": torch.full((3,), float(step)), "step": step}
                save(folder / "checkpoints", Checkpoint(0, step, metrics.position(), state))
            record({"step": step})


def steps_of(folder: Path) -> int | None:
    found = newest(folder / "checkpoints", folder / "metrics.jsonl")
    return None if found is None else found.steps


def test_two_are_kept_and_the_newest_wins(tmp_path: Path) -> None:
    run_until(tmp_path, 12)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == [f"0-00000000{n}.{kind}" for n in (11, 12) for kind in ("json", "safetensors")]
    found = newest(tmp_path / "checkpoints", tmp_path / "metrics.jsonl")
    assert found is not None
    assert (found.stage, found.steps, found.state["step"]) == (0, 12, 12)
    assert found.state["weight"].tolist() == [12.0] * 3


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, halve, empty, Path.unlink])
@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_a_damaged_one_is_passed_over(damage: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    run_until(tmp_path, 7)
    damage(tmp_path / "checkpoints" / f"0-0000000007.{kind}")
    assert steps_of(tmp_path) == 6
    damage(tmp_path / "checkpoints" / f"0-0000000006.{kind}")
    assert steps_of(tmp_path) is None


def test_one_whose_metrics_are_lost_is_passed_over(tmp_path: Path) -> None:
    run_until(tmp_path, 7)
    lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines[:6]))
    assert steps_of(tmp_path) == 6
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines).replace(b'"step": 0', b'"step": 9'))
    assert steps_of(tmp_path) is None


def test_a_later_stage_is_newer_than_any_step_of_the_first(tmp_path: Path) -> None:
    run_until(tmp_path, 30)
    with Metrics(tmp_path / "metrics.jsonl") as metrics:
        save(tmp_path / "checkpoints", Checkpoint(1, 0, metrics.position(), {}))
    found = newest(tmp_path / "checkpoints", tmp_path / "metrics.jsonl")
    assert found is not None
    assert (found.stage, found.steps) == (1, 0)


def test_damaged_ones_do_not_crowd_out_what_is_written_next(tmp_path: Path) -> None:
    run_until(tmp_path, 7)
    for step in (6, 7):
        flip(tmp_path / "checkpoints" / f"0-000000000{step}.json")
    drop_newer(tmp_path / "checkpoints", newest(tmp_path / "checkpoints", tmp_path / "metrics.jsonl"))
    assert not any((tmp_path / "checkpoints").iterdir())


def test_neither_time_nor_machine_is_in_a_checkpoint(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run_until(tmp_path / name, 3)
    files = [{p.name: p.read_bytes() for p in (tmp_path / name / "checkpoints").iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


def test_a_state_that_cannot_be_saved_says_what_to_do(tmp_path: Path) -> None:
    with (
        Metrics(tmp_path / "metrics.jsonl") as metrics,
        pytest.raises(InvalidRecipe, match="a set, and no checkpoint can"),
    ):
        save(tmp_path, Checkpoint(0, 0, metrics.position(), {"model": {"extra": {1}}}))


def test_metrics_go_on_where_they_were(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Metrics(path) as metrics:
        metrics.recorder("pruned")({"step": 0, "loss": 0.1})
        here = metrics.position()
        metrics.recorder("pruned")({"step": 1, "loss": 0.3})
        assert len(path.read_bytes().splitlines()) == 2, "a line is in the file at once"
    with Metrics(path, here) as metrics:
        metrics.recorder("fine-tuned")({"step": 0, "loss": 0.2})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["loss"] for row in rows] == [0.1, 0.2]
    with Metrics(path):
        pass
    assert path.read_bytes() == b""
