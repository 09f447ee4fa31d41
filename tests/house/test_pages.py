"""Every page of the documentation: its Python runs, its commands are commands, and what it names exists."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import hw_targets
import neuroprune
from hw_targets.app.cli.commands import parse
from neuroprune.models.sew_resnet import SmallSEWResNet
from neuroprune.training.data.own import NAMED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
#: Pages whose Python is run by a test of their own.
ELSEWHERE = {"snntorch-to-chip", "xylo", "speck", "training-loops"}
PAGES = {page.stem: page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))}
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    """Code of a language on a page, as it stands but for the indent of a list."""
    return [textwrap.dedent(code) for _, name, code in FENCE.findall(PAGES[page]) if name == language]


def common() -> dict[str, Any]:
    """A small network, images and all else that examples take for granted."""
    torch.manual_seed(0)
    model = SmallSEWResNet((4, 4))
    images, labels = torch.rand(20, 1, 12, 12), torch.arange(20) % 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scope: dict[str, Any] = {"torch": torch, "nn": nn, "neuroprune": neuroprune, "hw_targets": hw_targets}
    scope |= {"layer": layer, "neuron": neuron, "functional": functional, "reset": functional.reset_net}
    scope |= {"model": model, "images": images, "labels": labels, "optimizer": optimizer}
    return scope | {"criterion": nn.CrossEntropyLoss(), "dataclass": dataclass}


def given(page: str) -> dict[str, Any]:
    """What a page's examples take for granted."""
    scope = common()
    model, images, labels = scope["model"], scope["images"], scope["labels"]
    shown = images.expand(4, *images.shape)
    if page == "prune":
        scope |= {"head": [model.fc.weight], "norms": [p for p in model.parameters() if p.dim() < 2], "lr": 0.1}
        scope |= {"steps": 10, "body": [p for p in model.blocks.parameters() if p.dim() >= 2]}
        return scope | {"loader": [(shown, labels)] * 3}
    if page == "will-it-fit":
        return scope | {"example": shown[:, :2]}
    if page == "data":
        events = np.random.default_rng(0).integers(0, (40, 8, 8, 2), (30, 4))
        samples = [(events, n % 2) for n in range(6)]
        return scope | {"train": samples, "test": samples[:3]}
    if page == "spikingjelly-to-chip":
        build = blocks(page, "python")[0].partition("model.load_state_dict")[0]
        exec(compile(build, page, "exec"), scope)
        torch.save(scope["model"].state_dict(), "checkpoint.pt")
        return scope | {"loader": [(images, labels)] * 3}
    if page == "deploy":
        shutil.copy(Path(hw_targets.__file__).parent / "targets" / "loihi" / "facts" / "loihi1.toml", "my_chip.toml")
    return scope


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python") and page not in ELSEWHERE])
def test_the_examples_of_a_page_run_as_they_stand(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lava(*_: Any, **__: Any) -> None:
        raise ImportError("Lava takes half a minute, and is compared with elsewhere")

    monkeypatch.setattr("hw_targets.targets.loihi.lava.check.compare_with_lava", no_lava)
    monkeypatch.chdir(tmp_path)
    scope = given(page)
    for number, code in enumerate(blocks(page, "python")):
        if "lava.lib" in code:
            continue  # below
        if "prepare_qat" in code:  # whose images are what the model takes, as on README
            scope["images"] = scope["images"][:8].expand(4, 8, 1, 12, 12)
        exec(compile(code, f"{page}.md, block {number}", "exec"), scope)
    if "done" in scope:
        assert set(scope["done"].not_done) == {"verify"}, scope["done"].not_done


def test_the_page_about_training_loops_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pl = pytest.importorskip("lightning.pytorch")
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Module(pl.LightningModule):  # type: ignore[misc,name-defined] # of a package without types
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(6, 4)

        def training_step(self, parts: Any, _: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.net(parts[0]), parts[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 1e-3)

    class Scored(nn.Linear):
        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:  # type: ignore[override] # as Trainer calls it
            return {"loss": nn.functional.cross_entropy(super().forward(x), labels)}

    monkeypatch.chdir(tmp_path)
    data: Any = [(torch.rand(6), n % 4) for n in range(40)]
    scope = common() | {"steps": 10, "model": nn.Linear(6, 4), "lightning_module": Module(), "hf_model": Scored(6, 4)}
    scope |= {"loader": torch.utils.data.DataLoader(data, 4), "dataset": [{"x": x, "labels": y} for x, y in data]}
    for number, code in enumerate(blocks("training-loops", "python")):
        exec(compile(code, f"training-loops.md, block {number}", "exec"), scope)
    for layer_ in (scope["lightning_module"].net, scope["hf_model"]):
        assert int((layer_.weight == 0).sum()) == 22  # 90 % of 24, rounded up


@pytest.mark.lava
def test_a_file_is_loaded_by_lava_as_the_page_says(tmp_path: Path) -> None:
    """In a process of its own, which Lava wants."""
    if importlib.util.find_spec("lava") is None:
        pytest.skip("Lava is not installed")
    (code,) = [code for code in blocks("deploy", "python") if "lava.lib" in code]
    scope = common()
    shown = scope["images"][:2].expand(4, 2, 1, 12, 12)
    real = hw_targets.from_torch(scope["model"].eval(), shown)
    network = hw_targets.to_chip(real, hw_targets.load_chip("loihi1"), for_format="netx")
    hw_targets.export_netx(network, tmp_path / "model.net")
    run = f"import os, hw_targets\nos.chdir({str(tmp_path)!r})\n{code}\nprint(len(net.layers))"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 4


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_every_command_of_a_page_is_one(page: str) -> None:
    """Its subcommand and options are those of the command line; nothing is run."""
    text = (ROOT / "README.md").read_text() if page == "README" else PAGES[page]
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^ *(neuroprune .*)$", text, re.MULTILINE)]
    for command in commands:
        assert callable(parse(command[1:])), command


def test_every_recipe_of_a_page_is_toml() -> None:
    found = [tomllib.loads(code) for page in PAGES for code in blocks(page, "toml")]
    assert found
    assert all(content["data"]["factory"] in NAMED for content in found)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_listed_and_what_it_names_exists(page: str) -> None:
    assert f": {page}.md\n" in (ROOT / "mkdocs.yml").read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", PAGES[page])]
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
    if page in ELSEWHERE:
        return
    files = re.findall(r"`((?:neuroprune|hw_targets|examples|tests)/[\w/.-]+)`", PAGES[page])
    assert [name for name in files if not (ROOT / name).exists()] == []
