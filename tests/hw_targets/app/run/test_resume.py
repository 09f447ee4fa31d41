"""A run that is stopped and gone on with has the bytes of one that never stopped; nothing else is gone on with."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from hw_targets.app.run_folder import RunFolder
from neuroprune.training.recipe import load_recipe, save_recipe
from tests.builders.tiny_run import (
    Interrupted,
    digests,
    keep_last_checkpoint,
    stop_after,
    terminate_self,
    train,
    write_recipe,
)


def seeded() -> None:
    """What a recipe does not seed, and a process may have from anywhere."""
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - what the models draw from


#: Changes that make other optimizers, maps and schedules of a recipe.
KINDS = {
    "mixed": [],
    "noisy": [],
    "learned": [],
    "AdamW, ramp to a rank": ["training.adamw=true", "pruning.schedule=prune_to", "pruning.sparsity=0.7"],
    "hard threshold": ["pruning.proximal=HardThreshold"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_bit_for_bit(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path, kind if not KINDS[kind] else "noisy")
    if KINDS[kind]:
        if "pruning.schedule=prune_to" in KINDS[kind]:  # which has no such key
            recipe.write_text(recipe.read_text().replace("target_sparsity = 0.8", ""))
        save_recipe(load_recipe(recipe, KINDS[kind]), recipe)
    with monkeypatch.context() as patch:
        keep_last_checkpoint(patch, tmp_path / "last whole")
        seeded()
        assert train(recipe, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        seeded()
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "stopped", "--checkpoint-every", "5")
    assert not (tmp_path / "stopped").exists()
    rows = (tmp_path / "stopped.unfinished" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 17, "each line is there at once"
    keep_last_checkpoint(monkeypatch, tmp_path / "last stopped")
    random.seed(99)  # what is set now must not matter
    assert train(recipe, tmp_path / "stopped", "--resume") == 0
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
    assert digests(tmp_path / "last stopped") == digests(tmp_path / "last whole"), "θ, d, momentum, random numbers"
    assert not (tmp_path / "stopped.unfinished").exists()


def test_fine_tuning_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path, "spiking")
    assert train(recipe, tmp_path / "whole") == 0
    steps = [json.loads(line)["run"] for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    with monkeypatch.context() as patch:
        stop_after(patch, steps.index("fine-tuned") + 4)
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "stopped", "--checkpoint-every", "3")
    assert train(None, tmp_path / "stopped", "--resume") == 0
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
    assert RunFolder.open(tmp_path / "stopped").scales("loihi1")


def test_sigterm_saves_the_step_and_ends_with_143(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, before = write_recipe(tmp_path), signal.getsignal(signal.SIGTERM)
    seeded()
    assert train(recipe, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 7, terminate_self)
        seeded()
        assert train(recipe, tmp_path / "stopped") == 143
    error = capsys.readouterr().err
    assert "stopped by SIGTERM after step 7, all saved; go on with neuroprune train --resume --out" in error
    assert error.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is before
    saved = (tmp_path / "stopped.unfinished" / "checkpoints").glob("*.json")
    assert sorted(path.name for path in saved) == ["0-0000000000.json", "0-0000000007.json"]
    assert train(recipe, tmp_path / "stopped", "--resume") == 0
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


def test_a_job_that_is_given_again_begins_goes_on_and_has_nothing_left_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = write_recipe(tmp_path), tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_after(patch, 3, terminate_self)
        assert train(recipe, out, "--resume") == 143
    assert train(recipe, out, "--resume") == 0
    whole = digests(out)
    assert train(recipe, out, "--resume") == 0
    assert train(None, out, "--resume") == 0
    assert digests(out) == whole
    capsys.readouterr()
    assert train(write_recipe(tmp_path, seed=1), out, "--resume") == 2
    assert "is of another recipe" in capsys.readouterr().err
    assert digests(out) == whole


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--set", "training.lr=0.5"], "is of another recipe than"),
        (["--dense"], "was begun without --dense"),
    ],
)
def test_a_run_goes_on_as_it_was_begun_or_not_at_all(
    options: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, out = write_recipe(tmp_path), tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_after(patch, 3, terminate_self)
        assert train(recipe, out) == 143
    before = digests(tmp_path)
    capsys.readouterr()
    assert train(recipe, out, "--resume", *options) == 2
    assert train(None, out, "--resume", "--set", "training.lr=0.5") == 2
    assert train(recipe, out) == 2, "without --resume nothing that was done is lost"
    errors = capsys.readouterr().err.splitlines()
    assert says in errors[0]
    assert "leave them out" in errors[1]
    assert "holds a run that was interrupted: go on with it" in errors[2]
    assert digests(tmp_path) == before
    assert train(recipe, out, "--overwrite") == 0


def test_nothing_to_go_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(None, tmp_path / "out", "--resume") == 2
    assert train(None, tmp_path / "out") == 2
    errors = capsys.readouterr().err.splitlines()
    assert "has no interrupted run to go on with" in errors[0]
    assert "which recipe?" in errors[1]


def test_a_run_whose_loss_is_lost_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path)
    assert train(recipe, tmp_path / "out", "--set", "training.lr=1e30") == 2
    assert "lower the learning rate" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {recipe.name}
