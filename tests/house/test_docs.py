"""The pages of documentation: their examples run as they stand, and their files exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import snntorch as snn
import torch
from snntorch import utils
from torch import nn

import hw_targets
import neuroprune
from hw_targets.ir.network import Accumulator

ROOT = Path(__file__).parents[2]
SNNTORCH = ROOT / "docs" / "snntorch-to-chip.md"


def test_the_way_from_snntorch_to_a_chip_runs_as_it_stands() -> None:
    torch.manual_seed(0)
    loader = [(torch.rand(16, 784), torch.randint(0, 10, (16,))) for _ in range(12)]
    scope: dict[str, Any] = {"torch": torch, "nn": nn, "snn": snn, "snn_utils": utils, "loader": loader}
    scope["pictures"] = torch.rand(16, 1, 28, 28)
    scope |= {"neuroprune": neuroprune, "hw_targets": hw_targets}
    *blocks, hidden = re.findall(r"```python\n(.*?)```", SNNTORCH.read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, SNNTORCH.name, "exec"), scope)
    sequence = dict(scope)
    exec(compile(hidden, SNNTORCH.name, "exec"), sequence)
    assert sequence["operations"] > 0
    assert sequence["network"].time_steps == 8
    net, images = scope["net"], scope["images"]
    real = hw_targets.from_torch(net, images)
    assert real.notes == ()
    assert isinstance(real["lif2"].neuron, Accumulator)
    assert all(p.lif is None or p.lif.resets_to_zero for p in real.populations)
    zeros = torch.cat([(p == 0).flatten() for p in net.parameters() if p.dim() > 1])
    assert float(zeros.float().mean()) > 0.85
    shown = (images * 255).round() / 255
    with torch.no_grad():
        potentials = net(shown)[1]
    ours = torch.from_numpy(hw_targets.emulate(real, shown).output).float()
    torch.testing.assert_close(ours, potentials[-1], atol=1e-4, rtol=0)
    assert (torch.from_numpy(scope["classes"]) == potentials[-1].argmax(1)).float().mean() > 0.8
    assert scope["cost"].energy > 0


def test_messages_name_pages_that_exist() -> None:
    named = {
        page
        for folder in ("neuroprune", "hw_targets")
        for source in (ROOT / folder).rglob("*.py")
        for page in re.findall(r"docs/[\w-]+\.md", source.read_text())
    }
    assert named
    assert all((ROOT / page).is_file() for page in named)


def test_the_page_about_speck_runs_as_it_stands(capsys: Any) -> None:
    pytest.importorskip("sinabs")
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "speck.md").read_text(), re.DOTALL)
    torch.manual_seed(0)
    exec(compile(block, "speck.md", "exec"), {})
    assert capsys.readouterr().out.startswith("2 [[")
