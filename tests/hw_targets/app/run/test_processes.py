"""`accelerate launch -m neuroprune train`: several processes train one model, and the first alone writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hw_targets.app.cli import main
from hw_targets.app.run.following import check_recipe
from hw_targets.app.run_folder import RunFolder
from neuroprune.training.processes import Processes, found_processes
from neuroprune.training.recipe import InvalidRecipe, load_recipe
from tests.builders.tiny_run import digests, train, write_recipe

ROOT = Path(__file__).resolve().parents[4]


def launch(arguments: list[str], folder: Path, stop_at: int = 0, count: int = 2) -> subprocess.CompletedProcess[str]:
    """`neuroprune train` on so many processes, as torchrun and so `accelerate launch` starts them."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", str(ROOT / "tests/builders/one_of_several.py"), str(folder), str(stop_at)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, "train", *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed", "noisy"])
def test_all_end_alike_and_one_that_is_stopped_goes_on_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    recipe, whole, notes = write_recipe(tmp_path, name), tmp_path / "whole", tmp_path / "notes"
    done = launch([str(recipe), "--out", str(whole)], notes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("validation accuracy") == 1
    first, second = (notes / "0").read_text(), (notes / "1").read_text()
    assert first == second
    stopped = tmp_path / "stopped"
    done = launch([str(recipe), "--out", str(stopped)], tmp_path / "none", stop_at=3)
    assert done.returncode != 0
    assert "stopped by SIGTERM after step 3, all saved" in done.stderr
    assert not any((tmp_path / "none").iterdir())
    done = launch(["--resume", "--out", str(stopped)], tmp_path / "again")
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.read_text() for path in (tmp_path / "again").iterdir()} == {first}
    assert digests(stopped) == digests(whole)
    done = launch(["--resume", "--out", str(stopped)], tmp_path / "done")  # nothing to do, for all
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    recipe = write_recipe(tmp_path, "mixed")
    recipe.write_text(recipe.read_text().replace(":Noisy", ":Plain").replace("amp = true", "amp = false"))
    done = launch([str(recipe), "--out", str(tmp_path / "two")], tmp_path / "notes")
    assert done.returncode == 0, done.stderr[-3000:]
    assert train(recipe, tmp_path / "one") == 0
    runs = [RunFolder.open(tmp_path / name) for name in ("one", "two")]
    one, two = (dict(run.load_model().named_parameters()) for run in runs)
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5)
    assert float((one["first.weight"] == 0).float().mean()) > 0.3
    rows = [[json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()] for run in runs]
    for key in ("threshold", "lr", "loss"):
        assert [row[key] for row in rows[1]] == pytest.approx([row[key] for row in rows[0]], rel=1e-4)


def test_several_processes_refuse_what_they_cannot_do(tmp_path: Path) -> None:
    three, two = (Processes(SimpleNamespace(num_processes=count)) for count in (3, 2))
    recipe = load_recipe(write_recipe(tmp_path, "noisy"))
    check_recipe(recipe, Processes())
    check_recipe(recipe, two)
    with pytest.raises(InvalidRecipe, match="batch_size is 8, which 3 processes cannot share equally"):
        check_recipe(recipe, three)
    tuned = load_recipe(write_recipe(tmp_path, "spiking"))
    check_recipe(tuned, Processes())
    with pytest.raises(InvalidRecipe, match="table quantization, runs in one process, and there are 2"):
        check_recipe(tuned, two)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ACCELERATE_USE_FSDP", "true", "asks for FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "asks for DeepSpeed"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", r"set training\.amp = true"),
    ],
)
def test_what_a_launcher_asks_for_and_is_not_done_is_refused(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, value)
    assert found_processes("cpu") == Processes()  # alone nothing is asked
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidRecipe, match=message):
        found_processes("cpu")
    assert main(["train", str(write_recipe(tmp_path)), "--out", str(tmp_path / "run")]) == 2


def test_one_process_exchanges_nothing() -> None:
    alone, layer = Processes(), torch.nn.Linear(2, 2)
    rows = torch.arange(6)
    assert alone.part(rows) is rows
    assert (alone.mean(0.3), alone.any(True), alone.any(False), alone.count) == (0.3, True, False, 1)
    alone.average(layer)
    assert layer.weight.grad is None
    parts = [Processes(SimpleNamespace(num_processes=2, process_index=rank)).part(rows) for rank in (0, 1)]
    assert [part.tolist() for part in parts] == [[0, 2, 4], [1, 3, 5]]
