"""Every reader of a file, good files for it, and how these are changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import nir
from torch import nn

from examples.benchmarks.strangers.hdf5 import changed_hdf5
from examples.benchmarks.strangers.plain import changed_bytes, changed_npz, changed_safetensors, changed_text
from examples.benchmarks.truth.chips import draw_chip_case
from examples.benchmarks.truth.drawing import draw_model
from examples.benchmarks.truth.tape import Tape
from hw_targets import export_netx, from_nir, from_torch, load_chip, place, read_netx, to_nir
from hw_targets.app.report.read import load_run
from hw_targets.app.run_folder import RunFolder
from hw_targets.errors import HardwareTargetError, InvalidFile
from hw_targets.ir.network import ChipNetwork, Network
from hw_targets.targets.registry import FAMILIES
from hw_targets.targets.saved_placements import load_placement
from neuroprune.training.recipe import Recipe, load_recipe, save_recipe
from neuroprune.training.toml import InvalidRecipe

RECIPES = Path(__file__).parents[2] / "recipes"
#: Networks of each kind, the first that can be written.
NETWORKS = 12

Change = Callable[[bytes, Path, Random], bytes]


@dataclass(frozen=True)
class Reader:
    """`read(file)` gives a value or raises one of `errors`; `good` are files that it reads, by name."""

    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    good: Mapping[str, bytes]
    change: Change
    suffix: str = ""


def readers(folder: Path) -> dict[str, Reader]:
    """By name; what they need is written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    chips, networks = _chip_networks(), _networks()
    hardware = (HardwareTargetError,)
    placed = {str(i): n for i, n in enumerate(chips) if _placed(n, folder / f"{i}.npz")}
    run = _run_folder(folder / "run")
    facts = [f for family in FAMILIES for f in (_targets() / family / "facts").glob("*.toml")]
    found = {
        "read_netx": Reader(read_netx, hardware, _netx(chips, folder), _structure, ".net"),
        "read_netx, lossy": Reader(
            lambda p: read_netx(p, lossy=True), hardware, _netx(chips, folder), _structure, ".net"
        ),
        "from_nir": Reader(from_nir, hardware, _nir(networks, folder), _structure, ".nir"),
        "load_chip": Reader(load_chip, hardware, {f.stem: f.read_bytes() for f in facts}, _text, ".toml"),
        "load_recipe": Reader(
            load_recipe, (InvalidRecipe,), {f.stem: f.read_bytes() for f in RECIPES.glob("*.toml")}, _text, ".toml"
        ),
        "weights": _of_run(run, "model.safetensors", lambda r: (r.load_model(), r.scales("loihi1")), _safetensors),
        "summary": _of_run(run, "summary.json", lambda r: (r.summary(), load_run(r.path)), _text),
        "metrics": _of_run(run, "metrics.jsonl", lambda r: load_run(r.path), _text),
    }
    for key, network in placed.items():
        good = {key: (folder / f"{key}.npz").read_bytes()}
        found[f"load_placement {key}"] = Reader(_placement(network), hardware, good, _npz, ".npz")
    return found


def _placement(network: ChipNetwork) -> Callable[[Path], Any]:
    return lambda path: load_placement(path, network, load_chip("loihi1"))


def _placed(network: ChipNetwork, path: Path) -> bool:
    try:
        place(network, load_chip("loihi1")).save(path, overwrite=True)
    except HardwareTargetError:
        return False
    return True


def _chip_networks() -> list[ChipNetwork]:
    found: list[ChipNetwork] = []
    for seed in range(20 * NETWORKS):
        try:
            found.append(draw_chip_case(Tape(seed)).network)
        except HardwareTargetError:
            continue
        if len(found) == 2 * NETWORKS:
            break
    return found


def _networks() -> list[Network]:
    found: list[Network] = []
    for seed in range(20 * NETWORKS):
        model = draw_model(Tape(seed))
        example, steps = model.example
        try:
            found.append(from_torch(model.net, example, time_steps=steps))
        except HardwareTargetError:
            continue
        if len(found) == 2 * NETWORKS:
            break
    return found


def _netx(networks: list[ChipNetwork], folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for index, network in enumerate(networks):
        path = folder / f"good{index}.net"
        try:
            export_netx(network, path, overwrite=True)
        except HardwareTargetError:
            continue
        files[str(index)] = path.read_bytes()
    return dict(list(files.items())[:NETWORKS])


def _nir(networks: list[Network], folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for index, network in enumerate(networks):
        path = folder / f"good{index}.nir"
        try:
            nir.write(path, to_nir(network))
        except HardwareTargetError:
            continue
        files[str(index)] = path.read_bytes()
    return dict(list(files.items())[:NETWORKS])


def _run_folder(path: Path) -> RunFolder:
    recipe = Recipe("small", "torch.nn:Linear", {"in_features": 3, "out_features": 2})
    run = RunFolder.create(path, recipe, overwrite=True)
    run.save_model(nn.Linear(3, 2), scales={"loihi1": {"input": 255.0, "out": 7.5}})
    layers = [{"name": "fc", "weights": 6, "zeros": 2}]
    usage = {"loihi1": {"pruned": [{"core": 0, "neurons": 2}], "limits": {"neurons": 1024}}}
    run.add_to_summary({"weights": 6, "sparsity": 0.3, "layers": layers, "core_usage": usage})
    with run.metrics() as record:
        rows = record("pruned")
        for step in range(4):
            rows({"step": step, "loss": 1.0 / (step + 1), "sparsity": 0.1 * step})
    save_recipe(recipe, path / "recipe.toml")
    return run


def _of_run(run: RunFolder, name: str, read: Callable[[RunFolder], Any], change: Change) -> Reader:
    """A reader of a run folder of which one file is changed."""
    good = (run.path / name).read_bytes()

    def read_changed(path: Path) -> Any:
        (run.path / name).write_bytes(path.read_bytes())
        try:
            return read(run)
        finally:
            (run.path / name).write_bytes(good)

    return Reader(read_changed, (InvalidFile, InvalidRecipe), {name: good}, change)


def _structure(data: bytes, path: Path, rng: Random) -> bytes:
    if rng.random() < 0.85:
        path.write_bytes(data)
        changed_hdf5(path, rng)
        data = path.read_bytes()
    return changed_bytes(data, rng) if rng.random() < 0.3 else data


def _text(data: bytes, _path: Path, rng: Random) -> bytes:
    if rng.random() < 0.9:
        data = changed_text(data.decode(errors="replace"), rng).encode(errors="surrogatepass")
    return changed_bytes(data, rng) if rng.random() < 0.2 else data


def _npz(data: bytes, _path: Path, rng: Random) -> bytes:
    if rng.random() < 0.85:
        data = changed_npz(data, rng)
    return changed_bytes(data, rng) if rng.random() < 0.3 else data


def _safetensors(data: bytes, _path: Path, rng: Random) -> bytes:
    return changed_safetensors(data, rng) if rng.random() < 0.8 else changed_bytes(data, rng)


def _targets() -> Path:
    import hw_targets.targets as package

    return Path(str(package.__file__)).parent


def good_are_read(found: Mapping[str, Reader], folder: Path) -> list[str]:
    """Good files that their reader refuses."""
    refused = []
    for name, reader in found.items():
        for key, data in reader.good.items():
            path = folder / f"one{reader.suffix}"
            path.write_bytes(data)
            try:
                assert reader.read(path) is not None
            except reader.errors as error:
                refused.append(f"{name} {key}: {error}")
    return refused


__all__ = ["Reader", "good_are_read", "readers"]
