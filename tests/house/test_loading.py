"""What an import, and the command line, load in a fresh interpreter; and that lazy names are all there."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("neuroprune", "hw_targets")
HEAVY = ("torch", "numpy", "h5py", "nir", "spikingjelly", "matplotlib", "torchvision", "lava")


def loaded_after(statement: str) -> list[str]:
    """Which heavy packages a fresh interpreter holds after a statement."""
    code = f"import sys, json\n{statement}\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    result: list[str] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_a_heavy_package_would_be_seen() -> None:
    assert set(loaded_after("from hw_targets import place; import h5py")) == {"numpy", "h5py"}
    assert "torch" in loaded_after("import neuroprune; neuroprune.soft_threshold")


@pytest.mark.parametrize("package", [*PACKAGES, "neuroprune.training.data", "hw_targets.app.cli"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert loaded_after(f"import {package}") == []


def test_what_needs_no_model_is_imported_without_torch() -> None:
    statement = "from hw_targets import quantize, place, load_chip, export_netx, estimate, from_nir"
    assert loaded_after(statement) == ["numpy"]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["demo", "--help"], ["export"], ["fly"]])
def test_the_command_line_is_parsed_without_loading_anything_heavy(arguments: list[str]) -> None:
    run = f"from hw_targets.app.cli import main\ntry: main({arguments})\nexcept SystemExit: pass"
    assert loaded_after(run) == []


@pytest.mark.parametrize("arguments", [["chips"], ["chips", "loihi2"]])
def test_chips_are_shown_without_loading_anything_heavy(arguments: list[str]) -> None:
    assert loaded_after(f"from hw_targets.app.cli import main\nassert main({arguments}) == 0") == []


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_of_a_package_are_there_and_listed(package: str) -> None:
    module = importlib.import_module(package)
    names: list[str] = module.__all__
    assert set(names) == set(module._HOME)
    assert set(names) <= set(dir(module))
    assert [name for name in names if getattr(module, name).__class__ is type(module)] == [], "a module, no public name"
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing


def test_the_stages_are_importable_from_one_place() -> None:
    from hw_targets import stages
    from hw_targets.app import stages as inner

    asked = "load_data chip_images calibration_images to_chip to_network map_network measure_synops emulated_accuracy"
    assert {*asked.split(), "place", "emulate", "estimate"} <= set(stages.__all__)
    own = set(inner.__all__)
    assert {"core_limits", "train_recipe"} <= own <= set(stages.__all__)
    assert [name for name in stages.__all__ if not hasattr(stages, name)] == []


def test_lazy_names_are_the_functions_in_a_fresh_interpreter() -> None:
    """Every way to reach them, in the order that breaks if the submodule shadows the function."""
    code = (
        "import hw_targets\n"
        "from hw_targets import emulate, from_nir, from_torch, to_nir\n"
        "assert all(map(callable, (emulate, from_nir, from_torch, to_nir))), (emulate, from_nir, from_torch, to_nir)\n"
        "assert callable(hw_targets.emulate) and callable(hw_targets.from_torch)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr.strip().rpartition("\n")[2]
