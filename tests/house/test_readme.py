"""The README's examples, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hw_targets
import neuroprune
from examples.benchmarks import pictures, readme
from hw_targets import emulate
from neuroprune.frameworks import framework_of
from neuroprune.models.sew_resnet import SmallSEWResNet

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def no_lava(*_: Any, **__: Any) -> None:
    raise ImportError("Lava takes half a minute, and is compared with elsewhere")


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
    following, calling = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1:]
    exec(compile(following, "README.md", "exec"), scope)
    assert scope["placement"].core_count > 0
    assert scope["classes"].shape == (8,)
    assert emulate(scope["network"], torch.rand(2, 1, 28, 28), static=True).output.shape == (2, 10)
    scope |= {"samples": torch.rand(20, 1, 28, 28), "labels": torch.arange(20) % 10}
    monkeypatch.setattr("hw_targets.targets.loihi.lava.check.compare_with_lava", no_lava)
    exec(compile(calling, "README.md", "exec"), scope)
    assert set(scope["done"].not_done) == {"verify"}
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= set(links)
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", re.findall(r"`(neuroprune/[\w/.]+|hw_targets/[\w/.]+|examples/[\w/.]+)`", README))
def test_every_file_the_readme_names_exists(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_figures_are_those_of_the_result_files() -> None:
    assert readme.main(["--check"]) == 0


def test_the_pictures_are_of_the_run_that_the_figures_are_of() -> None:
    assert pictures.main(["--check"]) == 0


def test_a_picture_of_another_run_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo.json").write_text(pictures.SUMMARY.read_text() + " ")
    monkeypatch.setattr(pictures, "SUMMARY", tmp_path / "demo.json")
    assert pictures.main(["--check"]) == 1
    pictures.draw(tmp_path / "demo.json", tmp_path / "new.png")
    monkeypatch.setattr(pictures, "FIGURE", tmp_path / "new.png")
    monkeypatch.setattr(pictures, "REPORT", tmp_path / "new.png")
    assert pictures.main(["--check"]) == 0
