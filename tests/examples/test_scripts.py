"""The scripts of `examples/`, each run at a small size: what it says it does is what comes out."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples import from_nir
from neuroprune.training.data.base import DatasetNotFound

FOLDER = Path(__file__).parents[2] / "examples"
LONGEST = 60

#: Of each script: arguments of a small run, and what must come of it. {} in a path is the test's folder.
SCRIPTS: dict[str, tuple[dict[str, Any], Callable[[dict[str, float]], bool]]] = {
    "prune_cnn": ({"images": 640, "epochs": 1, "sparsity": 0.8}, lambda r: r["accuracy"] > 0.3 and near(r, 0.8)),
    "prune_spikingjelly": (
        {"images": 1280, "epochs": 1, "sparsity": 0.8},
        lambda r: near(r, 0.8) and r["synops per image"] < 0.9 * r["synops per image, zeros billed"],
    ),
    "prune_snntorch": ({"images": 640, "sparsity": 0.8}, lambda r: near(r, 0.8) and r["cores"] == 1),
    "prune_sew_resnet": (
        {"out": "{}/m.net", "images": 640, "widths": (4, 8)},
        lambda r: near(r, 0.9) and r["accuracy in chip integers"] >= 0,
    ),
    "finetune_trained": (
        {"images": 640, "epochs": 1, "sparsity": 0.8},
        lambda r: near(r, 0.8) and r["accuracy after"] > r["accuracy before"] - 0.15,
    ),
    "early_pruning": (
        {"images": 640, "epochs": 2, "sparsity": 0.8},
        lambda r: near(r, 0.8) and r["weights of the first layer whose mask changed later"] == 0,
    ),
    "fan_in_cap": ({"images": 320, "width": 48, "cap": 100}, lambda r: r["most inputs of a neuron"] <= 100),
    "deploy_loihi": ({"out": "{}/run", "images": 320, "widths": (4, 4)}, lambda r: r["cores"] >= 1),
    "speck_events": (
        {"samples": 320, "channels": (3, 6), "compared": 3},
        lambda r: r["differences"] == 0 and r["kernel words"] < 0.7 * r["kernel words before"],
    ),
    "distributed": (
        {"images": 640, "epochs": 1, "sparsity": 0.8, "widths": (4,)},
        lambda r: near(r, 0.8) and r["processes"] == 1 and r["steps"] == 20,
    ),
    "events": ({"out": "{}/run", "samples": 320, "widths": (4, 4)}, lambda r: r["time steps"] == 6),
}


def near(found: dict[str, float], sparsity: float) -> bool:
    return abs(found["sparsity"] - sparsity) < 0.02


def test_every_script_is_run_and_short() -> None:
    scripts = {path.stem: path for path in FOLDER.glob("*.py") if path.stem != "__init__"}
    assert set(scripts) == {*SCRIPTS, "from_nir"}
    assert {name: n for name, p in scripts.items() if (n := len(p.read_text().splitlines())) > LONGEST} == {}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_does_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: Any, **__: Any) -> None:
        raise ImportError("Lava takes half a minute, and is compared with elsewhere")

    monkeypatch.setattr("hw_targets.targets.loihi.lava.check.compare_with_lava", unavailable)
    arguments, expected = SCRIPTS[name]
    given = {key: Path(v.format(tmp_path)) if key == "out" else v for key, v in arguments.items()}
    try:
        found = importlib.import_module(f"examples.{name}").main(**given)
    except DatasetNotFound as error:
        pytest.skip(str(error))
    except ModuleNotFoundError as error:
        if error.name != "sinabs" or os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    assert expected(found), found
    if "out" in given:
        assert given["out"].exists()


def test_a_nir_file_reaches_the_chip(tmp_path: Path) -> None:
    found = from_nir.main(from_nir.example_file(tmp_path))
    assert found["cores"] == 1
    assert found["spikes"] > 50
    assert found["spike counts that the integers keep"] > 0.7
