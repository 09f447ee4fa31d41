"""Integers that are kept with a run: found once, and anew where anything that they follow from changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import hw_targets
from hw_targets import emulate, load_chip, quantize
from hw_targets.app.cli import deployment, main
from hw_targets.app.run import hashes, integers
from hw_targets.app.run_folder import RunFolder
from hw_targets.app.stages import to_chip
from hw_targets.errors import InvalidFile
from hw_targets.ir.network import LIF, Accumulator, ChipNetwork, Dense, Network, Population, SpikeInput, Synapses
from hw_targets.targets.registry import available_chips
from tests.builders import chains, dynapcnn, xylo
from tests.builders.quantized import sew
from tests.builders.tiny_run import train, write_recipe

LOIHI = load_chip("loihi1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spiking run, and nothing made of it."""
    folder = tmp_path_factory.mktemp("run")
    assert train(write_recipe(folder, "spiking"), folder / "run") == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """For each time that integers were searched for, the file format."""
    found: list[str | None] = []

    def noted(*arguments: Any, **named: Any) -> ChipNetwork:
        found.append(named["for_format"])
        return to_chip(*arguments, **named)

    monkeypatch.setattr(deployment, "to_chip", noted)
    return found


def differences(a: Any, b: Any, where: str = "network") -> list[str]:
    """Fields in which two values of the network's differ, arrays by type, shape and every number."""
    if type(a) is not type(b):
        return [f"{where}: {type(a).__name__}, {type(b).__name__}"]
    if isinstance(a, np.ndarray):
        return [] if a.dtype == b.dtype and a.shape == b.shape and (a == b).all() else [where]
    if isinstance(a, tuple) and len(a) == len(b):
        return [line for i, pair in enumerate(zip(a, b, strict=True)) for line in differences(*pair, f"{where}[{i}]")]
    if is_dataclass(a) and not hasattr(a, "step_of"):
        return [
            line for f in fields(a) for line in differences(getattr(a, f.name), getattr(b, f.name), f"{where}.{f.name}")
        ]
    return [] if a is b or a == b else [where]


def readouts_alone() -> ChipNetwork:
    populations = (Population("in", (3,), SpikeInput()), Population("out", (2,), Accumulator()))
    network = Network(populations, (Synapses("in", "out", Dense(np.eye(2, 3))),), time_steps=4, notes=("a note",))
    return quantize(network, LOIHI)


NETWORKS: dict[str, Callable[[], ChipNetwork]] = {
    **{f"chain {seed}": lambda seed=seed: chains.random_chain(seed) for seed in range(8)},  # type: ignore[misc] # a default
    "images": lambda: chains.random_chain(3, graded=True, plain=True),
    "calibrated": lambda: quantize(sew(), LOIHI, for_format="netx"),
    "readouts alone": readouts_alone,
    "xylo": lambda: quantize(xylo.random_network(np.random.default_rng(1), biases=False), load_chip("xylo-audio2")),
    "speck": lambda: quantize(dynapcnn.network(4, 6)[0], load_chip("speck")),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_what_is_kept_is_what_was_found(make: Callable[[], ChipNetwork], tmp_path: Path) -> None:
    network, path = make(), integers.path_of(tmp_path, "chip", None)
    hashes.seal(tmp_path)
    integers.keep(tmp_path, path, network, "tie")
    written = path.read_bytes()
    found = integers.kept(tmp_path, path, "tie")
    assert found is not None
    assert differences(network, found) == []
    assert found.dynamics is network.dynamics
    assert integers.kept(tmp_path, path, "another") is None
    integers.keep(tmp_path, path, found, "tie")
    assert path.read_bytes() == written, "the same bytes each time"


def test_the_comparison_sees_one_number() -> None:
    network = chains.random_chain(1)
    first = network.synapses[0]
    changed = first.op.weight.copy()
    changed.flat[0] += 1
    other = replace(network, synapses=(replace(first, op=replace(first.op, weight=changed)), *network.synapses[1:]))
    assert differences(network, other) == ["network.synapses[0].op.weight"]


def test_the_next_command_reads_what_the_first_found(
    run: Path, searches: list[str | None], tmp_path: Path, trained: Path
) -> None:
    results = ("placement.npz", "model.net", "summary.json")
    assert main(["emulate", str(run)]) == 0
    assert searches == [None]
    assert main(["map", str(run), "--images", "2"]) == main(["emulate", str(run)]) == 0
    assert searches == [None]
    assert main(["export", str(run)]) == main(["export", str(run), "--format", "sanafe"]) == 0
    assert searches == [None, "netx"]
    fresh = Path(shutil.copytree(trained, tmp_path / "fresh"))
    assert main(["map", str(fresh), "--images", "2"]) == main(["export", str(fresh)]) == 0
    assert searches == [None, "netx", None, "netx"]
    for name in results:
        assert (run / name).read_bytes() == (fresh / name).read_bytes(), name
    assert sorted(p.name for p in (run / "integers").iterdir()) == ["loihi1-netx.safetensors", "loihi1.safetensors"]


def test_another_chip_of_the_same_name_has_other_integers(
    run: Path, searches: list[str | None], tmp_path: Path
) -> None:
    facts = Path(hw_targets.__file__).parent / "targets" / "loihi" / "facts" / "loihi2.toml"
    own, path = tmp_path / "own.toml", run / "integers" / "loihi2.safetensors"
    found = []
    for bits in (8, 8, 3):
        own.write_text(facts.read_text().replace("weight_bits = { value = 8", f"weight_bits = {{ value = {bits}"))
        assert main(["emulate", str(run), "--chip", str(own)]) == 0
        found.append(path.read_bytes())
    assert len(searches) == 2
    assert found[0] == found[1] != found[2]
    assert main(["emulate", str(run), "--chip", "loihi2"]) == 0
    assert len(searches) == 3
    assert path.read_bytes() == found[0]


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The file with another content, and a hash that says it belongs there."""
    with safe_open(str(path), "np") as file:
        content = json.loads(file.metadata()["network"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    change(content)
    save_file(arrays, path, {"network": json.dumps(content)})


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "empty": lambda p: p.write_bytes(b""),
    "no network": lambda p: save_file({}, p, {"other": "text"}),
    "of an unknown neuron": lambda p: rewrite(p, lambda c: c["network"].update({"is": "Other"})),
    "no network inside": lambda p: rewrite(p, lambda c: c.update(network=3)),
    "deep": lambda p: save_file({}, p, {"network": "[" * 100_000}),
    "tied to another": lambda p: rewrite(p, lambda c: c.update(tie="0" * 64)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_changed_file_is_refused_and_one_of_another_version_is_made_anew(
    damage: Callable[[Path], object], run: Path, searches: list[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["emulate", str(run)]) == 0
    said, path = capsys.readouterr().out, run / "integers" / "loihi1.safetensors"
    good = path.read_bytes()
    damage(path)
    assert main(["emulate", str(run)]) == 2
    error = capsys.readouterr().err
    assert "integers/loihi1.safetensors was made by another run or changed since" in error
    assert "remove it and make it again" in error
    (run / "hashes.json").unlink()
    hashes.seal(run)  # as if it had been written so
    assert main(["emulate", str(run)]) == 0
    assert capsys.readouterr().out == said
    assert path.read_bytes() == good
    path.unlink()
    assert main(["emulate", str(run)]) == 0
    assert searches == [None] * 3
    assert path.read_bytes() == good


def test_a_file_that_this_run_never_wrote_is_not_read(run: Path, tmp_path: Path, searches: list[str | None]) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    assert main(["emulate", str(other)]) == 0
    shutil.copytree(other / "integers", run / "integers")
    assert main(["emulate", str(run)]) == 0
    assert searches == [None, None]
    RunFolder.open(run)


def test_a_folder_without_hashes_keeps_nothing(run: Path, searches: list[str | None]) -> None:
    (run / "hashes.json").unlink()
    assert main(["emulate", str(run)]) == main(["emulate", str(run)]) == 0
    assert searches == [None, None]
    assert not (run / "integers").exists()


def test_a_folder_that_takes_nothing_is_said(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise InvalidFile("no space left")

    monkeypatch.setattr(integers, "keep", full)
    assert main(["emulate", str(run)]) == 0
    assert "the integers are not kept for the next command: no space left" in capsys.readouterr().out


def test_everything_that_integers_follow_from_is_in_the_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = sew(), np.zeros((2, 1, 6, 6), np.float32)
    other_images = seen.copy()
    other_images[1, 0, 5, 5] = 1 / 255
    first = network.synapses[0]
    moved = first.op.weight.copy()
    moved.flat[-1] += 1e-12
    lower = [replace(p, neuron=LIF(0.999)) if p.neuron.fires else p for p in network.populations]
    ties = [
        integers.tie(network, LOIHI, seen, None, None),
        integers.tie(network, LOIHI, other_images, None, None),
        integers.tie(network, LOIHI, seen.astype(np.float64), None, None),
        integers.tie(network, LOIHI, seen.reshape(1, 2, 1, 6, 6), None, None),
        integers.tie(network, LOIHI, seen, {"sn": 3.0}, None),
        integers.tie(network, LOIHI, seen, None, "netx"),
        integers.tie(network, replace(LOIHI, bias_mantissa_bits=7), seen, None, None),
        integers.tie(replace(network, time_steps=5), LOIHI, seen, None, None),
        integers.tie(replace(network, populations=tuple(lower)), LOIHI, seen, None, None),
        integers.tie(
            replace(network, synapses=(replace(first, op=replace(first.op, weight=moved)), *network.synapses[1:])),
            LOIHI,
            seen,
            None,
            None,
        ),
    ]
    monkeypatch.setattr(integers, "_source", lambda: "another")
    ties.append(integers.tie(network, LOIHI, seen, None, None))
    assert len(set(ties)) == len(ties) == 11
    monkeypatch.undo()
    assert integers.tie(sew(), load_chip("loihi1"), seen.copy(), None, None) == ties[0]


@pytest.mark.parametrize("name", available_chips())
def test_every_chip_has_a_tie_and_a_file(name: str, tmp_path: Path) -> None:
    assert len(integers.tie(sew(), load_chip(name), np.zeros(1), None, None)) == 64
    assert integers.path_of(tmp_path, f"../{name}/" + "x" * 200, "netx").parent == tmp_path / "integers"


def test_integers_that_were_kept_spike_as_those_that_were_found(tmp_path: Path) -> None:
    network, path = chains.random_chain(5), tmp_path / "integers" / "a.safetensors"
    hashes.seal(tmp_path)
    integers.keep(tmp_path, path, network, "")
    found = integers.kept(tmp_path, path, "")
    assert found is not None
    shown = chains.frames_of(network, 3, 0)
    theirs, ours = emulate(network, shown), emulate(found, shown)
    assert all((theirs.spikes[name] == ours.spikes[name]).all() for name in theirs.spikes)
    assert any(spikes.any() for spikes in theirs.spikes.values())
