"""The command line on a Xylo chip, from signals in .ts files to xylosim's verdict."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from hw_targets import read_xylo
from hw_targets.app.cli import main
from tests.builders.signals import write_signals
from tests.builders.xylosim import required_in_ci

RECIPE = """
name = "signals on Xylo"
[data]
factory = "signals"
arguments = {{ train = "{train}", test = "{test}", counts = 15, length = 8 }}
[model]
factory = "examples.xylo.networks:two_layers"
arguments = {{ inputs = 3, hidden = 10, classes = 2 }}
[training]
epochs = 2
batch_size = 10
lr = 0.01
[pruning]
schedule = "LATS"
l1 = 1e-2
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xylo")
    for name, samples in (("train", 20), ("test", 12)):
        write_signals(folder / f"{name}.ts", samples, samples)
    (folder / "recipe.toml").write_text(RECIPE.format(train=folder / "train.ts", test=folder / "test.ts"))
    assert main(["train", str(folder / "recipe.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def said(run: Path, capsys: pytest.CaptureFixture[str], *command: str, status: int = 0) -> str:
    capsys.readouterr()
    found = main([command[0], str(run), *command[1:], "--chip", "xylo-audio2"])
    out, error = capsys.readouterr()
    assert found == status, error
    return out + error


def test_every_stage_runs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "average_fan_out" not in said(run, capsys, "fit")
    mapped = said(run, capsys, "map")
    assert "1 cores" in mapped
    assert "clock cycles a step (SynSense's model)" in mapped
    assert "model.json" in said(run, capsys, "export")
    assert "model.npz" in said(run, capsys, "export", "--format", "npz")
    specs = [read_xylo(run / f"model.{ending}") for ending in ("json", "npz")]
    assert np.array_equal(specs[0].weights_rec, specs[1].weights_rec)
    emulated = said(run, capsys, "emulate")
    model, chip = (part.split("%")[0].split()[-1] for part in emulated.split("integers"))
    assert model == chip, "trained in the chip's integers: the same accuracy to the last digit"


def test_verify_names_its_judge(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with required_in_ci():
        from hw_targets.targets.xylo.xylosim.runner import _xylosim

        _xylosim()
    verdict = said(run, capsys, "verify", "--images", "3")
    assert "0 differences from xylosim in" in verdict
    assert "judge: xylosim 0.1.3, SynSense's own simulator" in verdict


def test_training_keeps_to_a_chips_fan_out(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Audio 2 allows 64 synapses, more than there are; a chip like it with 4 is held to, in each matrix."""
    recipe, out = str(run.parent / "recipe.toml"), tmp_path / "run"
    facts = files("hw_targets.targets.xylo").joinpath("facts/xylo-audio2.toml").read_text(encoding="utf-8")
    (tmp_path / "small.toml").write_text(facts.replace("neuron = { value = 64,", "neuron = { value = 4,"))
    assert main(["train", recipe, "--out", str(out), "--chip", str(tmp_path / "small.toml")]) == 0
    assert "fan_out = 4" in (out / "recipe.toml").read_text()
    leaving = [
        int((tensor != 0).sum(0).max())
        for name, tensor in load_file(out / "model.safetensors").items()
        if tensor.ndim == 2 and "weight" in name
    ]
    assert max(leaving) == 4
    assert len(leaving) == 5
    assert main(["train", recipe, "--out", str(tmp_path / "x"), "--chip", "xylo-audio2", "--dense"]) == 2
    assert "--dense prunes nothing" in capsys.readouterr().err
    assert main(["train", recipe, "--out", str(tmp_path / "x"), "--chip", "speck"]) == 2
    assert "speck states no limit on the synapses of one neuron; give --set pruning.fan_in=N" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_formats_of_other_chips_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = said(run, capsys, "export", "--format", "netx", status=2)
    assert "export: xylo-audio2 is not written as netx; take json, npz, nir" in refused
    assert main(["export", str(run), "--chip", "loihi1"]) == 2
    assert "was trained in the integers of xylo" in capsys.readouterr().err
