"""What works with torch, numpy and h5py alone; and each missing package is named with the line that installs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from neuroprune import _require

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

#: Imports fail of every installed package but three, and what these ask for themselves.
ALONE = """
import json, re, sys
from importlib import metadata

def closure(names):
    known, left = set(), list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in known:
            continue
        known.add(name)
        try:
            left += [re.match(r"[\\w.-]+", line)[0] for line in metadata.requires(name) or () if "extra ==" not in line]
        except metadata.PackageNotFoundError:
            pass
    return known

KEPT = closure(["torch", "numpy", "h5py", "tomli"])
BLOCKED = {
    name for name, owners in metadata.packages_distributions().items()
    if not {re.sub(r"[-_.]+", "-", o).lower() for o in owners} & KEPT
} - {"neuroprune", "hw_targets", "tests", "examples"}

class Without:
    # A finder that finds none of them.

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
assert {"matplotlib", "safetensors", "typer", "spikingjelly", "nir", "scipy"} <= BLOCKED and "torch" not in BLOCKED
"""


def alone(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code where nothing else can be imported."""
    given = f"{ALONE}\nsys.path.insert(0, {str(ROOT)!r})\n{textwrap.dedent(code)}"
    return subprocess.run([sys.executable, "-c", given], capture_output=True, text=True, check=False, cwd=folder)


def test_pruning_counting_chips_and_files_need_nothing_else(tmp_path: Path) -> None:
    done = alone(
        """
        import numpy as np, torch
        from torch import nn
        import hw_targets, neuroprune
        from hw_targets.network import LIF, Accumulator, Dense, Network, Population, SpikeInput, Synapses
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        pruner = neuroprune.prune_to(0.5, optimizer, steps=10)
        x, y = (torch.rand(32, 12) > 0.5).float(), torch.randint(0, 3, (32,))
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        found = {"sparsity": pruner.sparsity()}
        pruner.finalize()
        found["synops"] = neuroprune.count_synops(model, x).total
        first, last = (model[i].weight.detach().double().numpy() for i in (0, 2))
        network = Network(
            (Population("in", (12,), SpikeInput()), Population("mid", (16,), LIF(0.2, 0.0)),
             Population("out", (3,), Accumulator())),
            (Synapses("in", "mid", Dense(first)), Synapses("mid", "out", Dense(last))),
            time_steps=4,
        )
        chip = hw_targets.load_chip("loihi1")
        integers = hw_targets.to_chip(network, chip)
        activity = hw_targets.emulate(integers, x[:4].numpy(), static=True)
        placement = hw_targets.place(integers, chip, activity)
        found["cores"] = placement.core_count
        found["energy"] = hw_targets.estimate(placement, activity, chip).energy
        written = hw_targets.to_chip(network, chip, for_format="netx")
        hw_targets.export_netx(written, "model.net")
        back = hw_targets.emulate(hw_targets.read_netx("model.net"), x[:4].numpy(), static=True)
        found["same"] = bool((back.output == hw_targets.emulate(written, x[:4].numpy(), static=True).output).all())
        print(json.dumps(found))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert found["synops"] > 0
    assert found["cores"] == 1
    assert found["energy"] > 0
    assert found["same"]


def test_a_missing_package_is_named_with_its_install_line(tmp_path: Path) -> None:
    """All in one process, for the time that torch takes to be imported."""
    done = alone(
        """
        import contextlib, io, pathlib, numpy as np, torch, hw_targets, neuroprune
        from hw_targets.app.cli import main
        from hw_targets.app.run.tensorboard import Board
        from hw_targets.network import Accumulator, Dense, Network, Population, SpikeInput, Synapses
        from neuroprune.training.data.image_folder import FolderOptions, image_folder
        from neuroprune.training.data.own import own_data
        for name in ("train", "val"):
            pathlib.Path("images", name, "a").mkdir(parents=True)
        network = Network((Population("in", (2,), SpikeInput()), Population("out", (2,), Accumulator())),
                          (Synapses("in", "out", Dense(np.eye(2))),), time_steps=2)
        layer, sizes = torch.nn.Linear(2, 2), {"in_features": 2, "out_features": 2}
        asking = {
            "cli": lambda: main(["--help"]),
            "spikingjelly": lambda: __import__("neuroprune.models.sew_resnet"),
            "nir": lambda: hw_targets.to_nir(network),
            "train": lambda: neuroprune.save_pretrained(layer, "new", arguments=sizes),
            "imagenet": lambda: image_folder(FolderOptions("images")),
            "tensorboard": lambda: Board("board"),
            "events": lambda: own_data("x", "tonic", {"dataset": "NMNIST", "folder": ".", "steps": 2}),
        }
        said = {}
        for extra, ask in asking.items():
            words = io.StringIO()
            with contextlib.redirect_stderr(words):
                try:
                    assert ask() == 2
                except Exception as error:
                    words.write(f"{type(error).__name__}: {error}")
            said[extra] = words.getvalue()
        print(json.dumps(said))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for extra, words in json.loads(done.stdout).items():
        assert f"pip install 'neuroprune[{extra}]'" in words, words
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "board").exists()


def test_every_extra_that_is_named_exists() -> None:
    sources = [path.read_text() for folder in ("neuroprune", "hw_targets") for path in (ROOT / folder).rglob("*.py")]
    named = {extra for text in sources for extra in re.findall(r'require\("[\w.]+", "(\w+)"\)', text)}
    assert {"cli", "train", "nir"} <= named
    assert named - set(EXTRAS) == set(_require._LINES)
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "hw_targets").rglob("*.py")]
    for path in pages:
        for extras in re.findall(r"neuroprune\[([\w,]+)\]", path.read_text()):
            assert set(extras.split(",")) <= set(EXTRAS), path
