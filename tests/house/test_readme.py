"""The README's usage example, run as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hw_targets
import neuroprune
from examples.benchmarks import readme
from hw_targets import emulate
from neuroprune.frameworks import framework_of
from neuroprune.models.sew_resnet import SmallSEWResNet

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_usage_example_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    assert len(example[1].splitlines()) <= 8 + 1  # the loop's two statements share the eight lines' purpose
    monkeypatch.chdir(tmp_path)
    model = SmallSEWResNet((4, 8))
    framework = framework_of(model)
    assert framework is not None
    loader = [(torch.rand(4, 8, 1, 28, 28), torch.randint(0, 10, (8,))) for _ in range(3)]
    scope: dict[str, Any] = {
        "neuroprune": neuroprune,
        "hw_targets": hw_targets,
        "model": model,
        "reset": framework.reset,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loader": loader,
        "criterion": nn.CrossEntropyLoss(),
    }
    exec(compile(example[1], "README.md", "exec"), scope)
    assert int(capsys.readouterr().out) > 0
    assert (tmp_path / "model.net").stat().st_size > 0
    asking, following = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1:3]
    exec(compile(following, "README.md", "exec"), scope)
    assert scope["placement"].core_count > 0
    assert scope["classes"].shape == (8,)
    assert emulate(scope["network"], torch.rand(2, 1, 28, 28)).output.shape == (2, 10)
    tuning = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[3]
    shutil.copy(Path(hw_targets.__file__).parent / "targets" / "loihi" / "facts" / "loihi1.toml", "my_chip.toml")
    exec(compile(tuning, "README.md", "exec"), {**scope, "torch": torch})
    other, steps = SmallSEWResNet((4, 8)), 10
    parts = {"head": [other.fc.weight], "norms": [p for p in other.parameters() if p.dim() < 2], "lr": 0.1}
    body = [p for p in other.blocks.parameters() if p.dim() >= 2]
    planned = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD(body, lr=0.1), steps)
    scope = {"neuroprune": neuroprune, "torch": torch, "steps": steps, "scheduler": planned, "body": body, **parts}
    exec(compile(asking, "README.md", "exec"), scope)
    assert len(scope["pruner"].parameters) == len(body) + 1


@pytest.mark.parametrize("name", re.findall(r"`(neuroprune/[\w/.]+|hw_targets/[\w/.]+|examples/[\w/.]+)`", README))
def test_every_file_the_readme_names_exists(name: str) -> None:
    assert (Path(__file__).parents[2] / name).exists()


def test_the_figures_are_those_of_the_result_files() -> None:
    assert readme.main(["--check"]) == 0
