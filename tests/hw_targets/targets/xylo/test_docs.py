"""The page about Xylo: its example runs as it stands, its table is that of the chip files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hw_targets
import neuroprune
from tests.builders.xylosim import required_in_ci

PAGE = (Path(__file__).parents[4] / "docs" / "xylo.md").read_text(encoding="utf-8")


def test_the_example_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    batch = torch.randint(0, 16, (10, 6, 12)).float(), torch.randint(0, 9, (6,))
    scope: dict[str, Any] = {"torch": torch, "nn": nn, "neuroprune": neuroprune, "hw_targets": hw_targets}
    scope["loader"] = [batch] * 4
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with required_in_ci():
        exec(compile(block, "docs/xylo.md", "exec"), scope)
    assert "0 differences from xylosim" in capsys.readouterr().out
    assert hw_targets.read_xylo(tmp_path / "model.json").outputs == 9


def test_the_table_is_that_of_the_chip_files() -> None:
    rows = [
        [[int(number) for number in cell.replace(" ", "").split(",")] for cell in line.strip("|").split("|")[1:]]
        for line in PAGE.partition("## Measured")[0].splitlines()
        if re.match(r"\|.*\| *\d", line)
    ]
    keys = (
        ("input_neurons", "hidden_neurons", "output_neurons"),
        ("synapses_out_per_neuron",),
        ("average_fan_out",),
        ("input_projection_neurons", "output_projection_neurons"),
    )
    for column, name in enumerate(("xylo-audio2", "xylo-audio3", "xylo-imu")):
        chip = hw_targets.load_chip(name)
        assert [row[column] for row in rows[:4]] == [[getattr(chip, key) for key in group] for group in keys]
